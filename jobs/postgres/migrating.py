"""Versions of the schema: upgrade, downgrade, and read the current one.

Alembic is imported when there is something to migrate, because its import takes time and memory.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.event import listen

from callboard.jobs.errors import Busy, InvalidInput
from callboard.jobs.model.basics.jitter import JITTER
from callboard.jobs.outage import Outage
from callboard.jobs.postgres import schema
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.failures import is_conflict, is_lock_timeout
from callboard.jobs.postgres.released_migrations import translate_on
from callboard.jobs.postgres.schema import SchemaStatus

if TYPE_CHECKING:
    from alembic.config import Config

#: Alembic's `op` and `context` are global, so only one thread of a process may migrate at a time.
_one_at_a_time: Final = Lock()
#: A migration that waits for a lock on a table blocks all later statements on it. So it waits for this time
#: at most, lets the others pass, and tries again.
_LIMITS: Final = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = 0"
#: The pause before the next try, and how long a migration tries in all. Seconds.
_PAUSES: Final = (0.5, 2.0)
_PATIENCE: Final = 600.0
#: A statement of a migration may rewrite a large table. Seconds.
_LONGEST_STATEMENT: Final = 3600.0

log = structlog.get_logger(__name__)


class Migrations:
    """Upgrades and downgrades the schema. Of two runs at once, one waits for the other.

    Each migration is one transaction, so a failed upgrade leaves the tables at the last version that it
    reached. Its next run goes on from there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def status(self) -> SchemaStatus:
        with self._database.autocommit() as connection:
            return schema.read_status(connection)

    def upgrade(self) -> SchemaStatus:
        """Upgrade the schema to the version that this code needs."""

        def act(config: "Config", _current: str | None) -> None:
            from alembic import command

            command.upgrade(config, "head")

        self._run(act, unless=schema.NEEDED)
        return self.status()

    def downgrade(self, revision: str) -> SchemaStatus:
        """Downgrade the schema to an earlier version. `base` removes all tables and their data."""
        if not revision:
            raise InvalidInput("there is no schema version '' to go back to ('base' removes everything)")
        from alembic import command
        from alembic.util import CommandError

        try:
            self._run(lambda config, current: command.downgrade(config, _absolute(revision, current)))
        except CommandError as error:
            raise InvalidInput(
                f"there is no schema version {revision[:40]!r} to go back to: {error}"
            ) from None
        return self.status()

    def _run(self, act: "Callable[[Config, str | None], None]", *, unless: str | None = None) -> None:
        """Call `act` until it gets all locks. It is called with the version from before the first call.

        unless: with tables of this version there is nothing to do.
        """
        deadline = time.monotonic() + _PATIENCE
        database = self._database
        with _one_at_a_time, database.explaining(), schema.exclusive(database.engine) as verify:
            current = self.status().current
            if current is not None and current == unless:
                return
            outage = Outage(log, "migration.waiting")
            while True:
                verify()
                try:
                    self._once(act, current)
                except Busy as error:
                    if not is_lock_timeout(error) and not is_conflict(error):
                        raise
                    if time.monotonic() > deadline:
                        raise Busy(_LOCKED) from error
                    outage.failed("another transaction has locked a table")
                    time.sleep(JITTER.uniform(*_PAUSES))
                else:
                    return

    def _once(self, act: "Callable[[Config, str | None], None]", current: str | None) -> None:
        with ExitStack() as opened:
            opened.enter_context(self._database.explaining())
            connection = opened.enter_context(self._database.engine.connect())
            # The connection is changed below, so it must not go back to the pool.
            opened.callback(connection.invalidate)
            driver: Any = connection.connection.driver_connection
            # Only the whole migration may be repeated.
            driver.cursor_factory = psycopg.Cursor
            driver.answer_within = _LONGEST_STATEMENT
            listen(connection, "begin", _limit)
            translate_on(connection, self._database.schema)
            schema.create(connection)
            connection.commit()
            config = self._config()
            config.attributes["schema"] = self._database.schema
            config.attributes["connection"] = connection
            act(config, current)

    @staticmethod
    def _config() -> "Config":
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config


_LOCKED: Final = (
    "another transaction has locked a table for too long, so the tables are not at the wanted version yet;"
    " end it (pg_stat_activity shows the oldest xact_start), and run the command again"
)


def _limit(connection: Connection) -> None:
    """Limit the waits of a transaction that begins. In autocommit this has no effect."""
    connection.exec_driver_sql(_LIMITS)


def _absolute(revision: str, current: str | None) -> str:
    """Return the version that a relative one such as -2 means: a repeated call must not count again."""
    versions = [f"{number:04}" for number in range(1, int(current or 0) + 1)]
    steps = int(revision[1:]) if revision.startswith("-") and revision[1:].isdecimal() else 0
    if not 0 < steps <= len(versions):
        return revision
    return "base" if steps == len(versions) else versions[-steps - 1]
