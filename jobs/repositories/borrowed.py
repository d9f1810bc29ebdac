"""A caller's own psycopg connection, lent to the statements of an enqueue."""

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql import psycopg as dialect

_DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]


class BorrowedRows:
    """The answer to a statement."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def all(self) -> list[Any]:
        return self._rows

    def one_or_none(self) -> Any:
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


class BorrowedConnection:
    """Runs SQLAlchemy `text` on a psycopg connection, in whatever transaction that is; commits nothing."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None) -> BorrowedRows:
        compiled = str(statement.compile(dialect=_DIALECT))
        with self._connection.cursor(row_factory=namedtuple_row) as cursor:
            cursor.execute(compiled.encode(), parameters or {})
            return BorrowedRows(cursor.fetchall() if cursor.description else [])
