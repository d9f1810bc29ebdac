"""The database: its engine, three kinds of connections, and the conversion of driver errors."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

import orjson
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from callboard.jobs.errors import InvalidInput, Unavailable
from callboard.jobs.metrics import STORE_SECONDS, PostgresOperation
from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA, check_schema
from callboard.jobs.model.basics.stored_json import readable
from callboard.jobs.postgres.failures import (
    explained,
    is_misfit,
    is_outage,
    is_stale,
    retry_on_conflict,
)
from callboard.jobs.postgres.rows import binary_arrays  # noqa: F401 - an engine copies the registered dumpers
from callboard.jobs.postgres.schema import SchemaFit, SchemaStatus, read_status
from callboard.jobs.postgres.server_address import server_address
from callboard.jobs.postgres.sessions.bounded_connection import BoundedConnection, WaitLimits
from callboard.jobs.postgres.sessions.connection_parameters import connection_parameters
from callboard.jobs.postgres.sessions.pooler import PoolerRefused
from callboard.jobs.postgres.sessions.session_opening import Sessions
from callboard.jobs.postgres.sessions.session_settings import begin_statement
from callboard.jobs.postgres.sql import in_schema
from callboard.jobs.postgres.statements import RECYCLE_AFTER, KeptConnection

T = TypeVar("T")


class Database:
    """Connections to one schema of one database.

    transaction(), retrying(): a pooled connection, several statements, one transaction.
    autocommit():              a pooled connection for single statements.
    kept():                    a connection that one thread keeps for a hot loop.
    lasting():                 a connection that is used for as long as it works.

    All of them raise only Unavailable when Postgres does not answer within half a minute. A forked process
    opens its own connections. `operation` is the label of the metric that measures the call.

    Through a pooler, each use of a pooled connection is one transaction. allow_pooler: False: a pooler is
    refused with PoolerRefused, because this process needs sessions of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 5,
        application: str = "callboard",
        allow_pooler: bool = True,
    ) -> None:
        self.schema: Final = check_schema(schema)
        try:
            address = make_url(url)
            self.engine: Engine = create_engine(
                address,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=10,
                pool_pre_ping=False,
                pool_recycle=RECYCLE_AFTER,
                json_serializer=lambda value: orjson.dumps(value).decode(),
                json_deserializer=readable,
                connect_args=connection_parameters(address, application),
            )
        except ArgumentError:
            # The driver's message may show a part of the URL.
            raise InvalidInput("CALLBOARD_DATABASE_URL is not a usable URL") from None
        self.limits: Final = WaitLimits()
        self._sessions = Sessions(self.limits, allow_pooler=allow_pooler)
        listen(self.engine, "do_connect", self._connect)
        listen(self.engine, "begin", _begin_pooled)
        listen(self.engine, "before_cursor_execute", self._name_schema, retval=True)
        self._kept: WeakSet[KeptConnection] = WeakSet()
        #: How often all connections were discarded as dead.
        self.outages = 0
        #: Whether the tables have a version that this program can use.
        self.fit: Final = SchemaFit()
        _databases.add(self)

    @contextmanager
    def transaction(self, operation: PostgresOperation = "transaction") -> Iterator[Connection]:
        """Yield a pooled connection in a transaction. The end of the block commits it."""
        began = time.monotonic()
        try:
            with self.explaining(), self.engine.begin() as connection:
                yield connection
        finally:
            STORE_SECONDS.labels("postgres", operation).observe(time.monotonic() - began)

    @contextmanager
    def autocommit(self, operation: PostgresOperation = "statement") -> Iterator[Connection]:
        """Yield a pooled connection in autocommit, which saves a single statement two round trips."""
        began = time.monotonic()
        try:
            with self.lasting() as connection:
                yield connection
        finally:
            STORE_SECONDS.labels("postgres", operation).observe(time.monotonic() - began)

    @contextmanager
    def lasting(self) -> Iterator[Connection]:
        """Yield a connection in autocommit that is not measured, because the block lasts for hours.

        A pooler's connection is in a transaction of the block, as soon as it executes a statement.
        """
        with self.explaining(), self._opened() as connection:
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        """Yield what `lasting` yields, with the driver's errors."""
        with self.engine.connect() as connection:
            is_pooled = driver_of(connection).is_pooled
            if not is_pooled:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection
            if is_pooled:
                connection.commit()

    def retrying(self, work: Callable[[Connection], T], *, operation: PostgresOperation = "transaction") -> T:
        """Run `work` in a transaction; repeat it after a deadlock or a serialization failure.

        It is repeated once after a plan or a table changed under a prepared statement.
        """

        def once() -> T:
            with self.transaction(operation) as connection:
                return work(connection)

        try:
            return retry_on_conflict(once)
        except Exception as error:
            if not is_stale(error):
                raise
        # Other pooled connections hold statements that were prepared for the old tables, too.
        self.engine.dispose()
        return retry_on_conflict(once)

    def kept(
        self,
        operation: PostgresOperation,
        *,
        durable: bool = True,
        lock_timeout: timedelta | None = None,
    ) -> KeptConnection:
        """A connection that one thread keeps, for a hot loop.

        durable:      False: a commit does not wait for the disk. If Postgres itself crashes, the last commits
                      are undone.
        lock_timeout: how long a statement waits for a locked row before it raises Busy; by default without
        limit.
        """
        kept = KeptConnection(self, operation, durable=durable, lock_timeout=lock_timeout)
        self._kept.add(kept)
        return kept

    def hurry(self, answer: float, left: float) -> None:
        """Shorten all waits for Postgres, because this process stops. It may stop while Postgres hangs.

        answer: how long a statement waits from now on. Seconds.
        left:   from this time on nothing waits any more. Seconds from now.
        """
        self.limits.answer = min(answer, self.limits.answer)
        self.limits.until = time.monotonic() + left

    def refuse_pooler(self) -> None:
        """Raise InvalidInput if a pooler answers. An outage is no error: the processes wait for its end."""
        try:
            with self.lasting():
                pass
        except PoolerRefused as error:
            raise InvalidInput(error.message) from None
        except Unavailable:
            pass

    def verify_tables(self) -> None:
        """Raise SchemaMismatch unless the tables fit this program."""
        with self.explaining():
            self.fit.verify(self._read_status())

    def close(self) -> None:
        self.engine.dispose()

    def disown(self) -> None:
        """In a forked process, drop the connections without closing them: they belong to the parent."""
        self.engine.dispose(close=False)
        for kept in self._kept:
            kept.disown()

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Convert driver errors that have a meaning to our errors, such as Unavailable or Busy."""
        try:
            yield
        except Exception as error:
            meaning = self.explained(error)
            if meaning is error:
                raise
            raise meaning from error

    def explained(self, error: Exception) -> Exception:
        """Return our error for a driver error, or the driver error itself if it has no meaning for us.

        When one connection is lost, all pooled connections are discarded: the others are dead too.
        """
        if isinstance(error, DBAPIError) and error.connection_invalidated and is_outage(error):
            self.outages += 1
            self.engine.dispose()
        if is_misfit(error) or is_stale(error):
            # If the version cannot be read, the first error counts.
            with suppress(DBAPIError, PoolTimeout):
                mismatch = self.fit.explain(self._read_status, for_good=is_misfit(error))
                if mismatch is not None:
                    return mismatch
        return explained(error, where=server_address(self.engine.url), schema=self.schema)

    def _read_status(self) -> SchemaStatus:
        # Not by `lasting`: this explains an error, and an error of its own must not be explained by it again.
        with self._opened() as connection:
            return read_status(connection)

    def _connect(
        self, _dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]
    ) -> BoundedConnection:
        return self._sessions.open(parameters)

    def _name_schema(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any
    ) -> tuple[str, Any]:
        """Put the schema's name into a statement that SQLAlchemy executes."""
        return in_schema(statement, self.schema), parameters


def driver_of(connection: Connection) -> BoundedConnection:
    """Return the driver's connection of a connection of ours."""
    return cast("BoundedConnection", connection.connection.driver_connection)


def _begin_pooled(connection: Connection) -> None:
    """Begin a transaction on a pooler's connection, which does not begin one by itself."""
    if driver_of(connection).is_pooled:
        connection.exec_driver_sql(begin_statement().decode())


#: Every database of this process; a forked process has a copy of the set.
_databases: Final[WeakSet[Database]] = WeakSet()


def _disown_all() -> None:
    for database in _databases:
        database.disown()


os.register_at_fork(after_in_child=_disown_all)
