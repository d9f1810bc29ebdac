"""The way to Postgres: engine, transactions, and which failures mean 'not now'."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

import orjson
import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.event import listen
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from callboard.jobs.errors import Busy, InvalidInput, Unavailable
from callboard.jobs.model.stored_json import readable
from callboard.jobs.postgres.sql import DEFAULT_SCHEMA, check_schema, in_schema
from callboard.jobs.postgres.statements import DirectConnection

T = TypeVar("T")

# Statements are prepared, and a plan made while a table was nearly empty is kept until it is next analyzed: a backlog
# that comes in between would be read whole for every batch. Everything here has its index, so nothing else is on offer.
_OPTIONS: Final = (
    "-c timezone=UTC -c jit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
)

#: A connection older than this is replaced: what stands between may forget about old ones. Seconds.
_RECYCLE: Final = 1800
_NOT_DURABLE: Final = text("SET synchronous_commit = off")
#: What runs on a lane has one plan that is good for any number of rows; to weigh another each time takes longer than to run it.
_ONE_PLAN: Final = text("SET plan_cache_mode = force_generic_plan")
_IMPATIENT: Final = text("SELECT set_config('lock_timeout', CAST(:milliseconds AS text), false)")
_SERIALIZATION_FAILURE: Final = "40001"
_DEADLOCK: Final = "40P01"
_LOCK_TIMEOUT: Final = "55P03"
_UNDEFINED_TABLE: Final = {"42P01", "3F000", "42883"}
#: Classes of SQLSTATE that say the server, not the statement, is the trouble:
#: connection exception, insufficient resources, operator intervention, system error.
_OUTAGE_CLASSES: Final = ("08", "53", "57", "58")
#: A NUL, in jsonb and in the bytes of a text.
_NUL: Final = {"22P05", "22021"}


def sqlstate(error: BaseException) -> str:
    """The five-character SQLSTATE of a database error; empty when the server said nothing."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def is_outage(error: BaseException) -> bool:
    """Whether the database is away (as opposed to having refused a statement)."""
    if isinstance(error, Unavailable):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = sqlstate(error)
    if state:
        return (
            state.startswith(_OUTAGE_CLASSES) or state == "25006"
        )  # read-only: a standby in the primary's place
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_conflict(error: BaseException) -> bool:
    """Whether the same transaction, tried again, may well succeed."""
    return isinstance(error, DBAPIError) and sqlstate(error) in {_SERIALIZATION_FAILURE, _DEADLOCK}


class Database:
    """An engine and its manners.

    `transaction()` commits at the end of its block; `autocommit()` lets each statement be its own
    transaction, which saves two round trips where a verb is one statement anyway. Both raise Unavailable,
    and nothing else, when Postgres does not answer. A process that is forked has connections of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 5,
        application: str = "callboard",
    ) -> None:
        self.schema: Final = check_schema(schema)
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            pool_pre_ping=False,
            pool_recycle=_RECYCLE,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=readable,
            connect_args={
                "connect_timeout": 5,
                "application_name": application,
                "options": _OPTIONS,
            },
        )
        listen(self.engine, "before_cursor_execute", self._name_schema, retval=True)
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lanes: WeakSet[Lane] = WeakSet()
        #: How often all connections have been given up as dead.
        self.outages = 0
        _databases.add(self)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.named_outage(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        with self.named_outage(), self._autocommit.connect() as connection:
            yield connection

    @contextmanager
    def direct(self) -> Iterator[DirectConnection]:
        """As `autocommit`, past SQLAlchemy: for single statements that come by the thousand."""
        with self.autocommit() as connection:
            driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
            try:
                yield DirectConnection(driver, self.schema)
            finally:
                if driver.closed:
                    # SQLAlchemy did not see it break, and would try to clear it, and log at length that it cannot.
                    connection.invalidate()

    @contextmanager
    def direct_transaction(self) -> Iterator[DirectConnection]:
        """As `transaction`, past SQLAlchemy."""
        with self.direct() as connection, connection.transaction():
            yield connection

    def retrying(self, work: Callable[[Connection], T], *, direct: bool = False) -> T:
        """Run `work` in a transaction, again when Postgres broke it off for a deadlock or a serialization conflict.

        direct: past SQLAlchemy, for statements that know of no more than `AnyConnection` has.
        """

        def once() -> T:
            with self.direct_transaction() if direct else self.transaction() as connection:
                return work(cast("Connection", connection))

        return again_on_conflict(once)

    def lane(self, *, durable: bool = True, patience: timedelta | None = None) -> "Lane":
        """A connection of one's own, for statements that come one after the other and are transactions by themselves.

        Not durable: a commit does not wait for the disk. If Postgres itself crashes, the last moments of what was
        committed are gone, as if they had not been. patience: how long a statement waits for a row that somebody
        else has locked, before it is Busy; for ever by default.
        """
        lane = Lane(self, durable=durable, patience=patience)
        self._lanes.add(lane)
        return lane

    def close(self) -> None:
        self.engine.dispose()

    def disown(self) -> None:
        """In a process that was forked: leave the connections to the one that opened them."""
        self.engine.dispose(close=False)
        for lane in self._lanes:
            lane.disown()

    @contextmanager
    def named_outage(self) -> Iterator[None]:
        """Whatever says that Postgres is away, as Unavailable; other errors as they are."""
        try:
            yield
        except DBAPIError as error:
            if is_outage(error):
                # The pool's other connections are as dead as this one.
                if error.connection_invalidated:
                    self.outages += 1
                    self.engine.dispose()
                raise Unavailable(
                    f"Postgres does not answer at {self._where()}: {_first_line(error)}"
                ) from error
            if sqlstate(error) == _LOCK_TIMEOUT:
                raise Busy("another transaction, still open, holds what this needs; try again") from error
            if sqlstate(error) in _UNDEFINED_TABLE and self.schema in str(error):
                raise Unavailable(
                    "the database has no Callboard tables yet; run 'callboard db upgrade'"
                ) from error
            if sqlstate(error) in _NUL or (isinstance(error, DataError) and "NUL" in str(error.orig)):
                raise InvalidInput("text with a NUL character (\\u0000) cannot be stored") from error
            raise
        except UnicodeEncodeError as error:
            raise InvalidInput(
                "text that is not valid Unicode (a lone surrogate) cannot be stored"
            ) from error
        except PoolTimeout as error:
            raise Unavailable("all connections to Postgres are busy; try again") from error

    def _name_schema(  # noqa: PLR0913 - SQLAlchemy's signature
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any
    ) -> tuple[str, Any]:
        """Put the schema's name into a statement that goes through SQLAlchemy."""
        return in_schema(statement, self.schema), parameters

    def _where(self) -> str:
        url = self.engine.url
        return f"{url.host or 'a local socket'}:{url.port or 5432}/{url.database}"


#: Of this process, and of each that is forked from it.
_databases: Final[WeakSet[Database]] = WeakSet()


def _disown_all() -> None:
    for database in _databases:
        database.disown()


os.register_at_fork(after_in_child=_disown_all)


class Lane:
    """One kept connection in autocommit, for one thread: saves a hot loop the way to the pool and back.

    A connection that breaks is replaced with the next call. Raises Unavailable as everything here.
    """

    def __init__(self, database: Database, *, durable: bool, patience: timedelta | None) -> None:
        self._database = database
        self._durable = durable
        self._patience = patience
        self._opened = ExitStack()
        self._connection: DirectConnection | None = None
        self._opened_at = 0.0
        self._outages = 0
        self._not_ours: ExitStack | None = None

    def run(self, work: Callable[[DirectConnection], T]) -> T:
        """Run one statement, again when Postgres broke it off for a deadlock."""
        try:
            with self._database.named_outage():
                try:
                    return work(self._connect())
                except DBAPIError as error:
                    if not is_conflict(error):
                        raise
                return again_on_conflict(lambda: work(self._connect()))
        except (Busy, InvalidInput):
            # The connection is as well as before.
            raise
        except BaseException:
            # Whatever was wrong, the next call begins with a connection that is known to be well.
            self.close()
            raise

    def close(self) -> None:
        opened, self._opened, self._connection = self._opened, ExitStack(), None
        # A broken connection may say so once more when it is put back.
        with suppress(Unavailable, DBAPIError):
            opened.close()

    def disown(self) -> None:
        """In a process that was forked: leave the connection to the one that opened it, without a word on it."""
        self._not_ours, self._opened, self._connection = self._opened, ExitStack(), None

    def _connect(self) -> DirectConnection:
        if self._connection is not None and (
            self._outages != self._database.outages or time.monotonic() - self._opened_at > _RECYCLE
        ):
            self.close()
        if self._connection is None:
            self._opened_at, self._outages = time.monotonic(), self._database.outages
            connection = self._opened.enter_context(self._database.autocommit())
            # With settings of its own on it, it must not go back to the pool.
            self._opened.callback(connection.invalidate)
            connection.execute(_ONE_PLAN)
            if not self._durable:
                connection.execute(_NOT_DURABLE)
            if self._patience is not None:
                connection.execute(_IMPATIENT, {"milliseconds": self._patience // timedelta(milliseconds=1)})
            self._connection = DirectConnection(
                cast("Any", connection.connection.driver_connection), self._database.schema
            )
        return self._connection


def again_on_conflict(work: Callable[[], T]) -> T:
    """Call `work`, up to five times while Postgres breaks it off for a deadlock or a serialization conflict."""
    return Retrying(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.01, max=0.2),
        reraise=True,
    )(work)


def _first_line(error: DBAPIError) -> str:
    text = str(error.orig).strip()
    return text.splitlines()[0][:200] if text else type(error.orig).__name__
