"""The cursor of pooled connections: it repeats a statement that Postgres refused for a passing reason."""

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final, Self

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from callboard.jobs.model.basics.jitter import JITTER
from callboard.jobs.postgres.rows import tolerant
from callboard.jobs.postgres.sqlstates import CONFLICTS, STALE

#: How often a statement runs at most, after deadlocks and serialization failures; and the pauses. Seconds.
MOST_ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.2

_numbers: Final = count()


class RepeatingCursor(psycopg.Cursor[Any]):
    """A cursor that repeats a statement, see `repeat`, and reads all rows, see rows/tolerant.py."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        run = partial(super().execute, query, params, **options)
        try:
            run()
        except psycopg.Error as error:
            repeat(self, error, run)
        return self

    def fetchall(self) -> list[Any]:
        return tolerant.read(self, super().fetchall)

    def fetchmany(self, size: int = 0) -> list[Any]:
        return tolerant.read(self, partial(super().fetchmany, size))

    def fetchone(self) -> Any:
        return tolerant.read(self, super().fetchone)


def repeat(cursor: "psycopg.Cursor[Any]", error: psycopg.Error, run: Callable[[], object]) -> None:
    """Run a statement again that failed with `error`, or raise the error if that is of no use.

    Only a statement that is a transaction of its own is repeated: it left nothing behind. It is repeated
    after a deadlock or a serialization failure, and once after its plan or its tables changed; then the
    connection first forgets what it prepared. In a transaction, its owner repeats the whole.
    """
    is_fresh = False
    for attempt in range(1, MOST_ATTEMPTS):
        if not _is_alone(cursor.connection) or error.sqlstate not in CONFLICTS | STALE:
            break
        if error.sqlstate in CONFLICTS:
            time.sleep(JITTER.uniform(0, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)))
        elif is_fresh:
            break
        else:
            forget_prepared(cursor.connection)
            is_fresh = True
        try:
            run()
        except psycopg.Error as again:
            error = again
        else:
            return
    raise error


def _is_alone(connection: "psycopg.Connection[Any]") -> bool:
    # In a transaction, an error leaves the status INERROR.
    return connection.autocommit and connection.pgconn.transaction_status == TransactionStatus.IDLE


def forget_prepared(connection: "psycopg.Connection[Any]") -> None:
    """Drop the prepared statements of a connection, at the server and in the driver."""
    # The driver reads the answer and drops its own list, but only of a text that it has not counted before.
    # A plain cursor: this statement is not repeated.
    command = f"DEALLOCATE ALL -- {next(_numbers)}"
    psycopg.Cursor(connection, row_factory=tuple_row).execute(command.encode(), prepare=False)
