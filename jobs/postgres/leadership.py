"""Leadership of one scheduler: an advisory lock that one connection holds."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, TypeVar

from sqlalchemy import Connection

from callboard.jobs.metrics import STORE_SECONDS
from callboard.jobs.postgres import locks
from callboard.jobs.postgres.database import Database, driver_of
from callboard.jobs.postgres.sessions.session_settings import change

#: How long the server keeps the lock for a leader that asks nothing, and how long a leader waits for an
#: answer, in seconds. While neither knows that the other is gone, nobody leads.
_IDLE_AT_MOST: Final = "10s"
_ANSWER_WITHIN: Final = 10.0
T = TypeVar("T")


class Leadership:
    """The lock of the scheduler that leads. If its connection breaks, Postgres releases the lock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held = ExitStack()
        self._connection: Connection | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process took the lock and has not noticed its loss."""
        return self._connection is not None

    @property
    def is_connected(self) -> bool:
        """Whether the connection of the lock is not known to be lost."""
        return self._connection is not None and not self._connection.invalidated

    def take(self) -> bool:
        """Take the lock if it is free; return whether it was taken."""
        with ExitStack() as opened:
            connection = opened.enter_context(self._database.lasting())
            if not locks.try_lock(connection, locks.LEADER):
                return False
            # The lock belongs to the connection, so the connection must not go back to the pool.
            opened.callback(connection.invalidate)
            # A leader asks several times a second. One that is cut off frees the lock, even if something on
            # the way keeps its connection open.
            change(connection, {"idle_session_timeout": _IDLE_AT_MOST})
            driver_of(connection).answer_within = _ANSWER_WITHIN
            self._held = opened.pop_all()
            self._connection = connection
        return True

    def verify(self) -> None:
        """Raise an error when the connection, and with it the lock, is lost."""
        if self._connection is not None:
            with self._database.explaining():
                locks.check(self._connection)

    def ask(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the connection that holds the lock. An answer proves that the lock is still held."""
        if self._connection is None:
            raise RuntimeError("the lock is not held")
        began = time.monotonic()
        try:
            with self._database.explaining():
                return work(self._connection)
        finally:
            STORE_SECONDS.labels("postgres", "look").observe(time.monotonic() - began)

    def release(self) -> None:
        """Release the lock. A broken connection may raise an error."""
        self._connection = None
        opened, self._held = self._held, ExitStack()
        opened.close()
