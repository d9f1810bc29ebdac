"""Listen for the notices that transactions send when they commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database


@contextmanager
def listening(database: Database) -> Iterator[Callable[[float], set[str]]]:
    """Subscribe to the queues that get new jobs; yield the function that waits for them.

    The function takes a timeout in seconds and returns the names of queues. It raises Unavailable when the
    connection is lost.
    """
    with database.lasting() as connection:
        notices.listen(connection)
        try:
            yield lambda timeout: notices.heard(connection, timeout)
        finally:
            # The connection is subscribed, so it must not go back to the pool.
            connection.invalidate()
