"""Statements on the driver itself: for the few that every job goes through, and for connections that are lent to us.

SQLAlchemy's way around a statement costs as much as the statement; here it compiles each text once. What comes
back travels in Postgres's binary format, which neither side has to spell out and parse.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import psycopg
from psycopg.rows import namedtuple_row, tuple_row
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.exc import DBAPIError

from callboard.jobs.postgres.sql import in_schema

_DIALECT: Final = dialect.dialect()  # type: ignore[no-untyped-call]
RowFactory = Callable[[Any], Any]


@cache
def _compiled(statement: TextClause, schema: str) -> bytes:
    return in_schema(str(statement.compile(dialect=_DIALECT)), schema).encode()


class DirectRows:
    """The answer to a statement. Rows that nobody asks for are never made."""

    def __init__(self, cursor: "psycopg.Cursor[Any]") -> None:
        self._cursor = cursor
        self.rowcount = cursor.rowcount

    def all(self) -> list[Any]:
        return self._cursor.fetchall() if self._has_rows() else []

    def first(self) -> Any:
        """The first row; the others are not made."""
        return self._cursor.fetchone() if self._has_rows() else None

    def one_or_none(self) -> Any:
        rows = self.all()
        return rows[0] if rows else None

    def scalar_one(self) -> Any:
        return self.all()[0][0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())

    def _has_rows(self) -> bool:
        # The cursor's own `description` describes every column to find that out.
        result = self._cursor.pgresult
        return result is not None and result.nfields > 0


class DirectConnection:
    """Runs SQLAlchemy `text` on a psycopg connection, in whatever transaction that is; commits nothing.

    The answer to a statement holds until the next one. Errors are SQLAlchemy's, as everywhere else.
    """

    #: Whether statements are prepared at once; None: when they come often.
    _prepare: bool | None = True

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        schema: str,
        *,
        row_factory: RowFactory = tuple_row,
        binary: bool = True,
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._cursor = connection.cursor(binary=binary, row_factory=row_factory)

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None) -> DirectRows:
        try:
            self._cursor.execute(_compiled(statement, self._schema), parameters or {}, prepare=self._prepare)
        except psycopg.Error as error:
            wrapped = self._wrapped(error)
            if wrapped is error:
                raise
            raise wrapped from error
        return DirectRows(self._cursor)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction, of a connection in autocommit."""
        try:
            with self._connection.transaction():
                yield
        except psycopg.Error as error:
            raise self._wrapped(error) from error

    def _wrapped(self, error: psycopg.Error) -> BaseException:
        return DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, dialect=_DIALECT,
            connection_invalidated=self._connection.closed,
        )  # fmt: skip


class LentConnection(DirectConnection):
    """A caller's own psycopg connection, lent to the statements of an enqueue; its errors stay psycopg's."""

    _prepare = None

    def __init__(self, connection: "psycopg.Connection[Any]", schema: str) -> None:
        super().__init__(connection, schema, row_factory=namedtuple_row, binary=False)

    def _wrapped(self, error: psycopg.Error) -> BaseException:
        return error


class LentSqlalchemy:
    """A caller's own SQLAlchemy connection, lent to the statements of an enqueue."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None) -> Any:
        return self._connection.execute(_named(statement, self._schema), parameters)


@cache
def _named(statement: TextClause, schema: str) -> TextClause:
    return text(in_schema(statement.text, schema))


AnyConnection = Connection | DirectConnection
