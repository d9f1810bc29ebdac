"""The cursor of our connections: it repeats a single statement that Postgres refused for a passing reason."""

import random
import time
from typing import Any, Final, Self

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from callboard.jobs.postgres.sqlstates import CONFLICTS, STALE

#: How often a statement runs at most, after deadlocks and serialization failures; and the pauses. Seconds.
MOST_ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.2


class RepeatingCursor(psycopg.Cursor[Any]):
    """A cursor that repeats a statement which is a transaction of its own.

    Such a statement left nothing behind when it failed. It is repeated after a deadlock or a serialization
    failure, and once after its plan or its tables changed; then the connection first forgets what it
    prepared. A statement inside a transaction raises, and the owner of the transaction repeats the whole.
    """

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        try:
            return super().execute(query, params, **options)
        except psycopg.Error as error:
            if not self._is_alone() or error.sqlstate not in CONFLICTS | STALE:
                raise
            return self._repeated(error, query, params, options)

    def _repeated(self, error: psycopg.Error, query: Any, params: Any, options: dict[str, Any]) -> Self:
        forgotten = False
        for attempt in range(1, MOST_ATTEMPTS):
            if error.sqlstate in STALE:
                if forgotten:
                    break
                forget_prepared(self.connection)
                forgotten = True
            else:
                time.sleep(random.uniform(0, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)))  # noqa: S311
            try:
                return super().execute(query, params, **options)
            except psycopg.Error as again:
                if not self._is_alone() or again.sqlstate not in CONFLICTS | STALE:
                    raise
                error = again
        raise error

    def _is_alone(self) -> bool:
        # In a transaction, an error leaves the status INERROR.
        connection = self.connection
        return connection.autocommit and connection.pgconn.transaction_status == TransactionStatus.IDLE


def forget_prepared(connection: "psycopg.Connection[Any]") -> None:
    """Drop the prepared statements of a connection, at the server and in the driver."""
    # The driver reads the answer and drops its own list. A plain cursor: this statement is not repeated.
    psycopg.Cursor(connection, row_factory=tuple_row).execute("DEALLOCATE ALL", prepare=False)
