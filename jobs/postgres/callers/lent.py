"""Use a caller's connection for the statements of an enqueue: they run in the caller's transaction."""

import sys
from typing import TYPE_CHECKING, Any, cast

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import InvalidRequestError

from callboard.jobs.errors import InvalidInput
from callboard.jobs.postgres.callers.kinds import (
    AsyncCallersConnection,
    AsyncpgConnection,
    CallersConnection,
    DjangoConnection,
    Lent,
)
from callboard.jobs.postgres.callers.lent_asyncpg import LentAsyncpg, check_asyncpg
from callboard.jobs.postgres.callers.lent_psycopg import (
    LentAsyncPsycopg,
    LentPsycopg,
    check_psycopg,
    wait_until_free,
    wait_until_free_async,
)
from callboard.jobs.postgres.callers.lent_refusals import failed, kind_of, refused

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session


def lent(connection: CallersConnection, schema: str) -> Lent:
    """Return Statements that write through a caller's connection. Nothing is flushed, expired or committed.

    A SQLAlchemy connection begins its transaction, as with any other statement. Raises InvalidInput for what
    is no such connection, or cannot be written through; see `check_psycopg`.
    """
    given: Any = connection
    if isinstance(given, psycopg.AsyncConnection) or _is_async_sqlalchemy(given) or _is_asyncpg(given):
        raise refused(f"{kind_of(given)}: use AsyncClient with it, or lend a connection that is not async")
    if _is_django(given):
        given = _of_django(given)
    elif _is_sqlalchemy(given):
        given = _of_sqlalchemy(given)
    if not isinstance(given, psycopg.Connection):
        raise refused(kind_of(given))
    check_psycopg(given)
    if given.lock.locked():
        wait_until_free(given)
    return LentPsycopg(given, schema)


async def lent_async(connection: AsyncCallersConnection, schema: str) -> Lent:
    """Do what `lent` does, for an async connection."""
    given: Any = connection
    if isinstance(given, psycopg.Connection) or _is_sqlalchemy(given) or _is_django(given):
        raise refused(
            f"{kind_of(given)}: use Client with it (in a thread), or lend an async connection", is_async=True
        )
    through: Connection | None = None
    if _is_async_sqlalchemy(given):
        through, given = await _of_async_sqlalchemy(given)
    if isinstance(given, psycopg.AsyncConnection):
        check_psycopg(given)
        if given.lock.locked():
            await wait_until_free_async(given)
        return LentAsyncPsycopg(given, schema)
    if not _is_asyncpg(given):
        raise refused(kind_of(given), is_async=True)
    check_asyncpg(given)
    return LentAsyncpg(cast("AsyncpgConnection", given), schema, through=through)


def _of_sqlalchemy(given: "scoped_session[Any] | Session | Connection") -> object:
    """Return the driver's connection. SQLAlchemy knows that a transaction has begun."""
    try:
        connection = given if isinstance(given, Connection) else given.connection()
        if not connection.in_transaction():
            connection.begin()
        return connection.connection.driver_connection
    except InvalidRequestError as error:
        raise _unusable(error) from error


async def _of_async_sqlalchemy(
    given: "async_scoped_session[Any] | AsyncSession | AsyncConnection",
) -> tuple[Connection, object]:
    try:
        connection = cast(
            "AsyncConnection",
            given if _is_a(given, "sqlalchemy.ext.asyncio", "AsyncConnection") else await given.connection(),
        )
        if not connection.in_transaction():
            await connection.begin()
        through = connection.sync_connection
        raw = await connection.get_raw_connection()
    except InvalidRequestError as error:
        raise _unusable(error, is_async=True) from error
    if through is None:
        raise refused("it is not started: use `async with` or await it", is_async=True)
    return through, raw.driver_connection


def _of_django(given: DjangoConnection) -> object:
    if given.vendor != "postgresql":
        raise refused(f"the Django connection {given.alias!r} is one to {given.vendor}")
    if getattr(given, "needs_rollback", False):
        raise failed()
    given.ensure_connection()
    return given.connection


def _unusable(error: InvalidRequestError, *, is_async: bool = False) -> InvalidInput:
    reason = str(error).partition("\n")[0].partition(" (Background")[0]
    return refused(f"SQLAlchemy says: {reason[:200]}", is_async=is_async)


def _is_django(given: object) -> bool:
    """Return whether this is `django.db.connection`, or one of `django.db.connections`."""
    # Django's proxy names the class of the connection that it stands for.
    return _is_a(given, "django.db.backends.base.base", "BaseDatabaseWrapper") or _is_a(
        given, "django.utils.connection", "ConnectionProxy"
    )


def _is_asyncpg(given: object) -> bool:
    """Return whether this is a connection of asyncpg, or what its pool lends."""
    return _is_a(given, "asyncpg.connection", "Connection") or _is_a(
        given, "asyncpg.pool", "PoolConnectionProxy"
    )


def _is_sqlalchemy(given: object) -> bool:
    """Return whether this is a connection or a session of SQLAlchemy that is not async."""
    return isinstance(given, Connection) or _is_a(given, "sqlalchemy.orm", "Session", "scoped_session")


def _is_async_sqlalchemy(given: object) -> bool:
    """Return whether this is a connection or a session of SQLAlchemy's asyncio part."""
    return _is_a(given, "sqlalchemy.ext.asyncio", "AsyncConnection", "AsyncSession", "async_scoped_session")


def _is_a(given: object, module: str, *names: str) -> bool:
    """Return whether a value is of one of these classes. Nobody has one of a module that is not imported."""
    kinds = (getattr(sys.modules.get(module), name, None) for name in names)
    return any(kind is not None and isinstance(given, kind) for kind in kinds)
