"""Connections that threads keep for hot loops: each call is one transaction."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError

from callboard.jobs.errors import Busy, Duplicate, InvalidInput, Unavailable
from callboard.jobs.metrics import STORE_SECONDS, PostgresOperation
from callboard.jobs.postgres.failures import is_conflict, is_stale, retry_on_conflict
from callboard.jobs.postgres.protocols import Pool, Statements
from callboard.jobs.postgres.sessions.session_settings import begin_statement, change, kept_settings
from callboard.jobs.postgres.statements import DirectConnection

T = TypeVar("T")
Work = Callable[[Statements], T]

#: An older connection is replaced, because a firewall may drop long-lived connections. Seconds.
RECYCLE_AFTER: Final = 1800


class _PooledConnection(DirectConnection):
    """A pooler's connection. Every transaction first sets what the code relies on."""

    #: Another session may serve the next transaction.
    _prepare = False

    def __init__(self, connection: "psycopg.Connection[Any]", schema: str, settings: dict[str, str]) -> None:
        super().__init__(connection, schema)
        self._begin = begin_statement(tuple(settings.items()))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self._connection.execute(self._begin, prepare=False)
            yield
            self._connection.commit()
        except BaseException as error:
            with suppress(psycopg.Error):
                self._connection.rollback()
            if isinstance(error, psycopg.Error):
                raise self._wrapped(error) from error
            raise


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

    def run(self, work: Callable[[DirectConnection], T]) -> T:
        """Run `work`, which may execute one statement, as one transaction. Repeats it after a deadlock."""

        def once() -> T:
            connection = self._ready(1)
            if isinstance(connection, _PooledConnection):
                with connection.transaction():
                    return work(connection)
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
        if driver.is_pooled:
            return _PooledConnection(driver, self._pool.schema, self._settings)
        change(driver, self._settings)
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
