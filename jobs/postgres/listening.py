"""Listen for the notices that transactions send when they commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from callboard.jobs.postgres import locks, notices
from callboard.jobs.postgres.database import Database

#: A connection that only listens would not notice that its server fell silent. So it is asked this often.
#: Seconds.
_ASK_EVERY: Final = 15.0


@contextmanager
def listening(database: Database) -> Iterator[Callable[[float], set[str]]]:
    """Subscribe to the queues that get new jobs; yield the function that waits for them.

    The function takes a timeout in seconds and returns the names of queues. It raises Unavailable when the
    connection is lost.
    """
    with database.lasting() as connection:
        notices.listen(connection)
        ask_at = monotonic() + _ASK_EVERY

        def wait(timeout: float) -> set[str]:
            nonlocal ask_at
            if monotonic() >= ask_at:
                locks.check(connection)
                ask_at = monotonic() + _ASK_EVERY
            return notices.heard(connection, timeout)

        try:
            yield wait
        finally:
            # The connection is subscribed, so it must not go back to the pool.
            connection.invalidate()
