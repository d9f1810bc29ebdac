"""Use a caller's connection for the statements of an enqueue: they run in the caller's transaction."""

from functools import cache
from typing import Any

import psycopg
from sqlalchemy import Connection, TextClause, text

from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import in_schema
from callboard.jobs.postgres.statements import DirectConnection


class _LentPsycopg(DirectConnection):
    """A psycopg connection.

    Errors are psycopg's errors. The driver decides when to prepare statements.
    """

    _prepare = None

    def _wrapped(self, error: psycopg.Error) -> BaseException:
        return error


class _LentSqlalchemy:
    """A SQLAlchemy connection."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    def execute(self, statement: TextClause, parameters: dict[str, Any] | None = None, /) -> Any:
        return self._connection.execute(_named(statement, self._schema), parameters)


def lent(connection: "Connection | psycopg.Connection[Any]", schema: str) -> Statements:
    """Return Statements that write through a caller's connection."""
    if isinstance(connection, psycopg.Connection):
        return _LentPsycopg(connection, schema, binary=False)
    return _LentSqlalchemy(connection, schema)


@cache
def _named(statement: TextClause, schema: str) -> TextClause:
    return text(in_schema(statement.text, schema))
