"""The errors for connections that cannot be written through. Each says what to pass."""

from collections.abc import Iterator
from contextlib import contextmanager

from callboard.jobs.errors import InvalidInput
from callboard.jobs.postgres.sqlstates import IN_FAILED_TRANSACTION, UNDEFINED

_SYNC = "a connection of psycopg, SQLAlchemy or Django, or a SQLAlchemy Session, is expected, over psycopg 3"
_ASYNC = (
    "an async connection of psycopg or asyncpg, or a SQLAlchemy AsyncConnection or AsyncSession over one of"
    " them, is expected"
)


def refused(reason: str, *, is_async: bool = False) -> InvalidInput:
    """Return the error for a connection that is of another kind, or cannot be used."""
    what = _ASYNC if is_async else _SYNC
    return InvalidInput(f"connection: {what}; {reason}", fields={"connection": what})


def failed() -> InvalidInput:
    """Return the error for a connection whose transaction has failed."""
    what = "its transaction has failed; roll it back, or roll back to a savepoint, before you enqueue"
    return InvalidInput(f"connection: {what}", fields={"connection": what})


def kind_of(value: object) -> str:
    """Return the name of a value's class, for a message."""
    return f"it is a {type(value).__module__}.{type(value).__qualname__}"


class Explaining:
    """A caller's connection that converts those errors of its driver which are about the connection."""

    _schema: str

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise InvalidInput for a transaction that has failed, and for a database without our tables."""
        try:
            yield
        except Exception as error:
            # SQLAlchemy wraps the driver's error.
            driver = getattr(error, "orig", None) or error
            state = getattr(driver, "sqlstate", None)
            if state == IN_FAILED_TRANSACTION:
                raise failed() from error
            if state in UNDEFINED and self._schema in str(driver):
                raise _without_tables(self._schema) from error
            raise


def _without_tables(schema: str) -> InvalidInput:
    what = (
        f"its database has no Callboard tables in the schema {schema}; roll it back, and lend a connection to"
        " the client's database; without tables there, run 'callboard db upgrade'"
    )
    return InvalidInput(f"connection: {what}", fields={"connection": what})
