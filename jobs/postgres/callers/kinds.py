"""The kinds of connections that callers lend, as types.

asyncpg and Django are optional, so they are not imported. Callers that use SQLAlchemy's ORM or its asyncio
part import it themselves: it takes 6 MiB and a tenth of a worker's start.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from callboard.jobs.postgres.protocols import Statements

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session


class DjangoConnection(Protocol):
    """`django.db.connection`, or one of `django.db.connections`."""

    @property
    def alias(self) -> str: ...
    @property
    def vendor(self) -> str: ...
    @property
    def connection(self) -> Any:
        """The driver's connection; None before `ensure_connection`."""
        ...

    def ensure_connection(self) -> None: ...


class AsyncpgConnection(Protocol):
    """A connection of asyncpg, also one that its pool lends."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def prepare(self, query: str) -> Any: ...
    def get_settings(self) -> Any: ...
    def is_closed(self) -> bool: ...
    def is_in_transaction(self) -> bool: ...


if TYPE_CHECKING:
    #: What `Client` takes.
    CallersConnection = (
        Connection | Session | scoped_session[Any] | psycopg.Connection[Any] | DjangoConnection
    )
    #: What `AsyncClient` takes.
    AsyncCallersConnection = (
        AsyncConnection
        | AsyncSession
        | async_scoped_session[Any]
        | psycopg.AsyncConnection[Any]
        | AsyncpgConnection
    )
else:
    CallersConnection = AsyncCallersConnection = Any


class Lent(Statements, Protocol):
    """Statements in a caller's transaction."""

    @property
    def is_open(self) -> bool:
        """Whether the next statement runs in a transaction of the caller. Otherwise it commits itself."""
        ...

    def explaining(self) -> AbstractContextManager[None]:
        """Convert the driver's error for a transaction that has failed to our error."""
        ...
