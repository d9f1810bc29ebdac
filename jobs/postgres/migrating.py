"""Versions of the schema: upgrade, downgrade, and read the current one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from callboard.jobs.errors import InvalidInput
from callboard.jobs.postgres import schema
from callboard.jobs.postgres.database import Database, let_take_long
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.postgres.released_migrations import translate_on

#: Alembic's `op` and `context` are global, so only one thread of a process may migrate at a time.
_one_at_a_time: Final = Lock()


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The version that the database has (None: no tables yet) and the version that this code needs."""

    current: str | None
    needed: str

    @property
    def up_to_date(self) -> bool:
        return self.current == self.needed

    @property
    def is_newer(self) -> bool:
        """Return whether newer code has upgraded the tables. Versions are numbered in order."""
        return self.current is not None and self.current > self.needed


class Migrations:
    """Upgrades and downgrades the schema. Of two runs at once, one waits for the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._scripts: Final = Path(__file__).parent / "migrations"

    @cached_property
    def _needed(self) -> str:
        return ScriptDirectory.from_config(self._config()).get_current_head() or ""

    def status(self) -> SchemaStatus:
        with self._database.autocommit() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table_schema": self._database.schema}
            )
            return SchemaStatus(context.get_current_revision(), self._needed)

    def upgrade(self) -> SchemaStatus:
        """Upgrade the schema to the version that this code needs."""
        self._run(lambda config: command.upgrade(config, "head"))
        return self.status()

    def downgrade(self, revision: str) -> SchemaStatus:
        """Downgrade the schema to an earlier version. `base` removes all tables and their data."""
        if not revision:
            raise InvalidInput("there is no schema version '' to go back to ('base' removes everything)")
        try:
            self._run(lambda config: command.downgrade(config, revision))
        except CommandError as error:
            raise InvalidInput(
                f"there is no schema version {revision[:40]!r} to go back to: {error}"
            ) from None
        return self.status()

    def _run(self, act: Callable[[Config], None]) -> None:
        def work(connection: Connection) -> None:
            let_take_long(connection)
            schema.lock(connection)
            schema.create(connection)
            translate_on(connection, self._database.schema)
            config = self._config()
            config.attributes["schema"] = self._database.schema
            config.attributes["connection"] = connection
            act(config)

        # A lock of a table may deadlock with a worker's statement.
        with _one_at_a_time:
            try:
                self._database.retrying(work)
            finally:
                # The connection keeps the longer limit.
                self._database.close()

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self._scripts).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config
