"""The Postgres schema: its version, the lock of a migration, and indexes that are made without blocking."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

import structlog
from sqlalchemy import Connection, Engine, text

from callboard.jobs.errors import SchemaMismatch
from callboard.jobs.metrics import SCHEMA_VERSION
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.outage import Outage
from callboard.jobs.postgres.locks import MIGRATION, check, try_lock_transaction
from callboard.jobs.postgres.sql import SCHEMA

MIGRATIONS: Final = Path(__file__).parent / "migrations"
#: The version of the tables that this code needs: that of the newest migration. Alembic would say the same,
#: but its import takes as long as all others.
NEEDED: Final = max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
#: The SQL expression of the version that the tables have. Statements that run anyway read it on the way.
VERSION: Final = f"(SELECT max(version_num) FROM {SCHEMA}.alembic_version)"
#: After newer tables refused a statement, this program counts as unfit for so long. Then it tries again.
#: Seconds.
_UNFIT_FOR: Final = 10.0
#: Of several refused statements, the first reads the version. It is used for so long. Seconds.
_READ_EVERY: Final = 1.0
#: The pause between two attempts to take the lock of migrations. Seconds.
_LOCK_EVERY: Final = 0.2

# The transaction of the lock is idle while others migrate.
_HOLD: Final = text("SET LOCAL idle_in_transaction_session_timeout = 0")
_CREATE: Final = text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
_EXISTS: Final = text(f"SELECT to_regclass('{SCHEMA}.alembic_version') IS NOT NULL")
_READ: Final = text(f"SELECT {VERSION}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The version that the database has (None: no tables yet) and the version that this code needs."""

    current: str | None
    needed: str = NEEDED

    @property
    def up_to_date(self) -> bool:
        return self.current == self.needed

    @property
    def is_newer(self) -> bool:
        """Return whether newer code has upgraded the tables. Versions are numbered in order."""
        return self.current is not None and self.current > self.needed

    @property
    def mismatch(self) -> str:
        """Return what is wrong and how to mend it, for a program that cannot use the tables."""
        if self.current is None:
            return "the database has no Callboard tables yet; run 'callboard db upgrade'"
        if self.is_newer:
            return (
                f"the tables are at version {self.current}, newer than this program ({self.needed}), and"
                " refused its statement; restart it with the version that fits the tables"
            )
        return (
            f"the tables are at version {self.current}, and this program needs {self.needed};"
            " run 'callboard db upgrade'"
        )


def read_status(connection: Connection) -> SchemaStatus:
    """Read the version of the tables."""
    if not connection.execute(_EXISTS).scalar_one():
        return SchemaStatus(None)
    return SchemaStatus(connection.execute(_READ).scalar_one())


class SchemaFit:
    """Whether the tables fit this program. It logs each change.

    Older tables do not fit. Newer tables fit, see docs/how-to/upgrade.md, unless they refuse a statement.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._read: tuple[SchemaStatus, float] | None = None
        self._unfit: tuple[SchemaStatus, float] | None = None
        self._logged = False

    def verify(self, status: SchemaStatus) -> None:
        """Record the version of the tables. Raises SchemaMismatch if they do not fit."""
        SCHEMA_VERSION.labels("tables").set(int(status.current or 0))
        SCHEMA_VERSION.labels("program").set(int(NEEDED))
        if self.refuses(status) or not (status.up_to_date or status.is_newer):
            if not self._logged:
                self._logged = True
                log.warning(
                    "tables.do_not_fit", current=status.current, needed=NEEDED, reason=status.mismatch
                )
            raise SchemaMismatch(status.mismatch)
        if self._logged:
            self._logged = False
            log.info("tables.fit", version=status.current)

    def refuses(self, status: SchemaStatus) -> bool:
        """Return whether newer tables of this version have just refused a statement of this program."""
        if self._unfit is None:
            return False
        unfit, until = self._unfit
        return unfit == status and self._clock.monotonic() < until

    def explain(self, read: Callable[[], SchemaStatus], *, for_good: bool) -> SchemaMismatch | None:
        """Return the error for a refused statement, or None if the tables have the right version.

        read:     reads the version.
        for_good: whether the same statement is refused again. Otherwise a migration may run just now.
        """
        now = self._clock.monotonic()
        if self._read is None or now - self._read[1] > _READ_EVERY:
            self._read = read(), now
        status, _ = self._read
        if status.up_to_date:
            return None
        if status.is_newer and for_good:
            self._unfit = status, now + _UNFIT_FOR
        return SchemaMismatch(status.mismatch)


@contextmanager
def exclusive(engine: Engine) -> Iterator[Callable[[], None]]:
    """Hold the lock for migrations of this schema during the block. Wait for other processes first.

    Yields the function that raises an error when the lock is lost.

    The lock belongs to a transaction that does nothing else, so it works through a pooler. A waiting
    statement would have a snapshot, and CREATE INDEX CONCURRENTLY waits for each snapshot: so this asks again
    and again instead.
    """
    pause, outage = Event(), Outage(log, "migration.waiting")
    with engine.connect() as connection:
        connection.execute(_HOLD)
        while not try_lock_transaction(connection, MIGRATION):
            connection.rollback()
            connection.execute(_HOLD)
            outage.failed("another process migrates this schema")
            pause.wait(_LOCK_EVERY)
        yield lambda: check(connection)


def create(connection: Connection) -> None:
    """Create the schema unless it exists."""
    connection.execute(_CREATE)
