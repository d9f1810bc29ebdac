"""Use a caller's connection for the statements of an enqueue: they run in the caller's transaction."""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import psycopg
from psycopg.pq import PipelineStatus
from sqlalchemy import Connection, TextClause, text

from callboard.jobs.errors import InvalidInput
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import in_schema
from callboard.jobs.postgres.statements import DirectConnection

#: The output of times and intervals that the driver can read. The server reports both with every change.
_READABLE: Final = {"DateStyle": "ISO", "IntervalStyle": "postgres"}


class _LentPsycopg(DirectConnection):
    """A psycopg connection.

    Errors are psycopg's errors. The driver decides when to prepare statements.
    """

    _prepare = None

    @staticmethod
    def _again(_cursor: "psycopg.Cursor[Any]", error: psycopg.Error, _run: Callable[[], object]) -> None:
        raise error

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
    """Return Statements that write through a caller's connection.

    Raises InvalidInput for anything but a psycopg connection, or a SQLAlchemy connection over psycopg. The
    connection must use UTF-8, and the driver must be able to read its times. It must not be in pipeline mode.
    """
    driver = connection
    if isinstance(connection, Connection):
        driver = connection.connection.driver_connection  # type: ignore[assignment]
    if not isinstance(driver, psycopg.Connection):
        raise _refused(f"it is a {type(driver).__module__}.{type(driver).__qualname__}")
    if driver.info.encoding != "utf-8":
        raise _refused(f"its client_encoding is {driver.info.encoding}, and jobs are written in UTF-8")
    for setting, expected in _READABLE.items():
        found = driver.info.parameter_status(setting) or expected
        if not found.startswith(expected):
            raise _refused(f"its {setting} is {found}, and the driver reads only {expected}")
    if driver.pgconn.pipeline_status != PipelineStatus.OFF:
        raise _refused("it is in pipeline mode, in which a statement has no answer yet")
    if isinstance(connection, Connection):
        return _LentSqlalchemy(connection, schema)
    return _LentPsycopg(driver, schema, binary=False)


def _refused(reason: str) -> InvalidInput:
    what = "a psycopg connection, or a SQLAlchemy connection over psycopg, is expected"
    return InvalidInput(f"connection: {what}; {reason}", fields={"connection": what})


@cache
def _named(statement: TextClause, schema: str) -> TextClause:
    return text(in_schema(statement.text, schema))
