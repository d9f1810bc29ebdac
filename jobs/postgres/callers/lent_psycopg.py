"""Write through a caller's psycopg connection, whatever row factory, cursor or adapters it has."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types import TypesRegistry
from psycopg.types.array import register_all_arrays
from psycopg.types.json import set_json_loads
from sqlalchemy import TextClause
from sqlalchemy.util import await_only

from callboard.jobs.model.basics.stored_json import readable
from callboard.jobs.postgres.callers.lent_refusals import Explaining, failed, refused
from callboard.jobs.postgres.rows import tolerant
from callboard.jobs.postgres.rows.binary_arrays import register
from callboard.jobs.postgres.sql import compiled
from callboard.jobs.postgres.statements import DirectConnection, DirectRows

#: The output of times and intervals that the driver can read. The server reports both with every change.
_READABLE: Final = {"DateStyle": "ISO", "IntervalStyle": "postgres"}
#: How long a connection may be busy with something else. Seconds.
LONGEST_BUSY: Final = 30.0
_BUSY: Final = "it is busy with another statement, a COPY or a stream; end that first"
_Driver = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


@cache
def _adapters() -> AdaptersMap:
    """Return the driver's own adapters.

    A program may change those of a connection, or all: Django reads JSON as text.
    """
    adapters = AdaptersMap(types=TypesRegistry(psycopg.postgres.types))
    psycopg.postgres.register_default_adapters(adapters)
    register_all_arrays(adapters)
    set_json_loads(readable, adapters)
    register(adapters)
    return adapters


class _OwnCursor(psycopg.Cursor[Any]):
    """A cursor with the driver's own adapters."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        super().__init__(connection, row_factory=tuple_row)
        self._adapters = _adapters()


class _OwnAsyncCursor(psycopg.AsyncCursor[Any]):
    """An async cursor with the driver's own adapters."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        super().__init__(connection, row_factory=tuple_row)
        self._adapters = _adapters()


class _Psycopg(Explaining):
    """What a sync and an async connection of psycopg have in common."""

    _connection: Any

    @property
    def is_open(self) -> bool:
        driver: _Driver = self._connection
        return not (driver.autocommit and driver.info.transaction_status == TransactionStatus.IDLE)


class LentPsycopg(_Psycopg, DirectConnection):
    """A psycopg connection.

    Errors are psycopg's errors. The driver decides when to prepare statements.
    """

    _prepare = None

    def __init__(self, connection: "psycopg.Connection[Any]", schema: str) -> None:
        super().__init__(connection, schema, binary=False)
        self._cursor = _OwnCursor(connection)

    @staticmethod
    def _again(_cursor: "psycopg.Cursor[Any]", error: psycopg.Error, _run: Callable[[], object]) -> None:
        raise error

    def _wrapped(self, error: psycopg.Error) -> BaseException:
        return error


class _AsyncRows(DirectRows):
    """Rows of an async cursor. The driver has them in memory, so reading them waits for nothing."""

    def all(self) -> list[Any]:
        return self._read(self._cursor.fetchall) if self._has_rows() else []

    def first(self) -> Any:
        return self._read(self._cursor.fetchone) if self._has_rows() else None

    def _read(self, fetch: Callable[[], Any]) -> Any:
        return tolerant.read(self._cursor, lambda: await_only(fetch()))


class LentAsyncPsycopg(_Psycopg):
    """An async psycopg connection. Its statements run inside SQLAlchemy's `greenlet_spawn`."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]", schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._cursor: Any = _OwnAsyncCursor(connection)

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None, /) -> DirectRows:
        await_only(self._cursor.execute(compiled(statement, self._schema), parameters or {}))
        return _AsyncRows(self._cursor)


def check_psycopg(driver: _Driver) -> None:
    """Raise InvalidInput unless this connection can be written through.

    It must use UTF-8, and the driver must be able to read its times. It must be open, not in pipeline mode,
    and not in a transaction that has failed.
    """
    is_async = isinstance(driver, psycopg.AsyncConnection)
    if driver.closed:
        raise refused("it is closed", is_async=is_async)
    if driver.info.encoding != "utf-8":
        found = driver.info.encoding
        raise refused(f"its client_encoding is {found}, and jobs are written in UTF-8", is_async=is_async)
    for setting, expected in _READABLE.items():
        found = driver.info.parameter_status(setting) or expected
        if not found.startswith(expected):
            raise refused(
                f"its {setting} is {found}, and the driver reads only {expected}", is_async=is_async
            )
    if driver.pgconn.pipeline_status != PipelineStatus.OFF:
        raise refused("it is in pipeline mode, in which a statement has no answer yet", is_async=is_async)
    if driver.info.transaction_status == TransactionStatus.INERROR:
        raise failed()


def wait_until_free(driver: "psycopg.Connection[Any]") -> None:
    """Wait for the statement of another thread. Raise InvalidInput if that takes too long.

    The driver waits without end, also for a COPY that the caller itself has not ended.
    """
    if driver.lock.acquire(timeout=LONGEST_BUSY):
        driver.lock.release()
        return
    raise refused(_BUSY)


async def wait_until_free_async(driver: "psycopg.AsyncConnection[Any]") -> None:
    """Do what `wait_until_free` does."""
    try:
        async with asyncio.timeout(LONGEST_BUSY), driver.lock:
            return
    except TimeoutError:
        raise refused(_BUSY, is_async=True) from None
