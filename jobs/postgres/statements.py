"""The connections of the repositories, and the fast kind: statements directly on the driver.

SQLAlchemy's overhead for a statement takes as long as the statement itself. Here each text is compiled once,
and rows are read in Postgres's binary format.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import Format
from psycopg.rows import tuple_row
from sqlalchemy import TextClause
from sqlalchemy.exc import DBAPIError

from callboard.jobs.errors import Busy, Duplicate, InvalidInput, Unavailable
from callboard.jobs.metrics import STORE_SECONDS, PostgresOperation
from callboard.jobs.postgres.failures import is_conflict, is_stale, retry_on_conflict
from callboard.jobs.postgres.protocols import Pool, Statements
from callboard.jobs.postgres.repeating import repeat
from callboard.jobs.postgres.rows import tolerant
from callboard.jobs.postgres.sessions.bounded_connection import begun_by
from callboard.jobs.postgres.sessions.session_settings import begin_statement, change, kept_settings
from callboard.jobs.postgres.sql import DIALECT, compiled

T = TypeVar("T")
Work = Callable[[Statements], T]

#: An older connection is replaced, because a firewall may drop long-lived connections. Seconds.
RECYCLE_AFTER: Final = 1800


class DirectRows:
    """Rows of the driver. A row is converted only when it is read."""

    def __init__(self, cursor: "psycopg.Cursor[Any]") -> None:
        self._cursor = cursor
        self.rowcount = cursor.rowcount

    def all(self) -> list[Any]:
        return tolerant.read(self._cursor, self._cursor.fetchall) if self._has_rows() else []

    def first(self) -> Any:
        """Return the first row; the others are not converted."""
        return tolerant.read(self._cursor, self._cursor.fetchone) if self._has_rows() else None

    def one_or_none(self) -> Any:
        rows = self.all()
        return rows[0] if rows else None

    def scalar_one(self) -> Any:
        return self.all()[0][0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())

    def _has_rows(self) -> bool:
        # The cursor's `description` would describe every column to answer this.
        result = self._cursor.pgresult
        return result is not None and result.nfields > 0


class DirectConnection:
    """Runs SQLAlchemy `text` on a psycopg connection. It raises SQLAlchemy's errors."""

    #: Whether a statement is prepared at once; None: after it was executed several times.
    _prepare: bool | None = True
    #: What runs a failed statement again, or raises its error.
    _again = staticmethod(repeat)

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        schema: str,
        *,
        binary: bool = True,
        begin: bytes | None = None,
    ) -> None:
        """begin: what begins each transaction of a pooler's connection. Then nothing is prepared."""
        self._connection = connection
        self._transaction: Callable[[], Any] = connection.transaction
        if begin is not None:
            self._transaction, self._prepare = partial(begun_by, connection, begin), False
        self._schema = schema
        #: Not by `connection.cursor()`: a caller's connection may make another kind of cursor.
        self._cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        self._cursor.format = Format.BINARY if binary else Format.TEXT
        #: How many more statements may run.
        self.allowed = sys.maxsize

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None, /) -> DirectRows:
        if not self.allowed:
            raise RuntimeError("only one statement may run here: several need a transaction")
        self.allowed -= 1
        query = compiled(statement, self._schema)
        run = partial(self._cursor.execute, query, parameters or {}, prepare=self._prepare)
        try:
            try:
                run()
            except psycopg.Error as error:
                self._again(self._cursor, error, run)
        except psycopg.Error as error:
            wrapped = self._wrapped(error)
            if wrapped is error:
                raise
            raise wrapped from error
        return DirectRows(self._cursor)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Open a transaction on a connection in autocommit."""
        try:
            with self._transaction():
                yield
        except psycopg.Error as error:
            raise self._wrapped(error) from error

    @property
    def is_closed(self) -> bool:
        return self._connection.closed

    def _wrapped(self, error: psycopg.Error) -> BaseException:
        return DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, dialect=DIALECT,
            connection_invalidated=self._connection.closed,
        )  # fmt: skip


class KeptConnection:
    """A connection that one thread keeps for many statements. It saves the checkout from the pool.

    Each call is one transaction. A broken connection is replaced. Raises only Unavailable in an outage.
    """

    def __init__(
        self, pool: Pool, operation: PostgresOperation, *, durable: bool, lock_timeout: timedelta | None
    ) -> None:
        self._pool, self._operation = pool, operation
        self._settings = kept_settings(durable=durable, lock_timeout=lock_timeout)
        self._opened = ExitStack()
        self._connection: DirectConnection | None = None
        self._opened_at, self._outages = 0.0, 0
        self._of_parent: ExitStack | None = None
        self._is_pooled = False

    def run(self, work: Callable[[DirectConnection], T]) -> T:
        """Run `work`, which may execute one statement, as one transaction. Repeats it after a deadlock."""

        def once() -> T:
            connection = self._ready(1)
            if not self._is_pooled:
                return work(connection)
            with connection.transaction():
                return work(connection)

        return self._guarded(once)

    def transaction(self, work: Callable[[DirectConnection], T]) -> T:
        """Run `work`, with any number of statements, in one transaction. Repeats it after a deadlock."""

        def once() -> T:
            connection = self._ready(sys.maxsize)
            with connection.transaction():
                return work(connection)

        return self._guarded(once)

    def close(self) -> None:
        """Close the connection. A later call opens a new one."""
        opened, self._opened, self._connection = self._opened, ExitStack(), None
        # A broken connection may fail once more when it is given back.
        with suppress(Unavailable, DBAPIError):
            opened.close()

    def disown(self) -> None:
        """In a forked process, drop the connection and send nothing on it: it belongs to the parent."""
        self._of_parent, self._opened, self._connection = self._opened, ExitStack(), None

    def _guarded(self, once: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            try:
                return once()
            except DBAPIError as error:
                # After a rollback the driver prepares every statement again.
                if not is_conflict(error) and not is_stale(error):
                    raise
            return retry_on_conflict(once)
        except Exception as error:
            meaning = self._pool.explained(error)
            is_lost = self._connection is not None and self._connection.is_closed
            if is_lost or not isinstance(meaning, Busy | InvalidInput | Duplicate):
                self.close()
            if meaning is error:
                raise
            raise meaning from error
        except BaseException:
            # An interrupt may have happened anywhere, so the connection's state is unknown.
            self.close()
            raise
        finally:
            STORE_SECONDS.labels("postgres", self._operation).observe(time.monotonic() - began)

    def _ready(self, allowed: int) -> DirectConnection:
        is_old = time.monotonic() - self._opened_at > RECYCLE_AFTER
        if self._connection is not None and (is_old or self._outages != self._pool.outages):
            self.close()
        if self._connection is None:
            self._connection = self._open()
        self._connection.allowed = allowed
        return self._connection

    def _open(self) -> DirectConnection:
        self._opened_at, self._outages = time.monotonic(), self._pool.outages
        connection = self._opened.enter_context(self._pool.lasting())
        # The connection gets its own settings, so it must not go back to the pool.
        self._opened.callback(connection.invalidate)
        driver: Any = connection.connection.driver_connection
        self._is_pooled = driver.is_pooled
        if self._is_pooled:
            begin = begin_statement(tuple(self._settings.items()))
            return DirectConnection(driver, self._pool.schema, begin=begin)
        change(connection, self._settings)
        return DirectConnection(driver, self._pool.schema)


class KeptConnections:
    """Kept connections for several threads. When none is free, a thread uses a pooled connection."""

    def __init__(
        self, make: Callable[[], KeptConnection], count: int, otherwise: "Callable[[Work[Any]], Any]"
    ) -> None:
        #: A stack: the last returned one is taken first, so as few connections as possible are open.
        self._free = deque(make() for _ in range(count))
        self._otherwise = otherwise

    def run(self, work: "Work[T]", *, one_statement: bool) -> T:
        """Run `work` in one transaction. one_statement: `work` executes one statement, in autocommit."""
        try:
            kept = self._free.pop()
        except IndexError:
            result: T = self._otherwise(work)
            return result
        try:
            return kept.run(work) if one_statement else kept.transaction(work)
        finally:
            self._free.append(kept)

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        for kept in list(self._free):
            kept.close()
