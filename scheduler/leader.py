"""Leadership among schedulers: a session lock in Postgres. It saves work; correctness never depends on it."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

import structlog
from prometheus_client import Gauge
from sqlalchemy import Connection

from callboard.jobs.postgres import locks
from callboard.jobs.postgres.database import Database

T = TypeVar("T")
LEADER = Gauge("callboard_scheduler_leader", "1 in the scheduler that leads, 0 in those that stand by.")

log = structlog.get_logger(__name__)


class Leader:
    """Holds the lock, or tries to. A connection that breaks takes the lock with it, and a standby has it within seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held = ExitStack()
        self._connection: Connection | None = None
        LEADER.set(0)

    @property
    def leads(self) -> bool:
        return self._connection is not None

    def check(self) -> None:
        """Make sure that the lock is still held, or try to get it."""
        try:
            if self._connection is None:
                self._try()
            else:
                locks.check(self._connection)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the connection, the lock is not ours any more
            self.resign()
            log.warning("scheduler.leadership_lost", reason=str(error)[:200])

    def ask(self, work: Callable[[Connection], T]) -> T | None:
        """What `work` finds on the connection that holds the lock; None in a scheduler that does not lead.

        Raises what `work` does; whatever that was, the lock is let go of.
        """
        connection = self._connection
        if connection is None:
            return None
        try:
            with self._database.named_outage():
                return work(connection)
        except Exception as error:
            self.resign()
            log.warning("scheduler.leadership_lost", reason=str(error)[:200])
            raise

    def resign(self) -> None:
        """Let go of the lock."""
        self._connection = None
        LEADER.set(0)
        opened, self._held = self._held, ExitStack()
        try:
            opened.close()
        except Exception as error:  # noqa: BLE001 - a dead connection may refuse to be closed
            log.debug("scheduler.close_failed", reason=str(error)[:200])

    def _try(self) -> None:
        with ExitStack() as opened:
            connection = opened.enter_context(self._database.autocommit())
            if not locks.try_lock(connection, locks.LEADER):
                return
            # A pooled connection must not go back to the pool with the lock on it.
            opened.callback(connection.invalidate)
            self._held = opened.pop_all()
            self._connection = connection
        LEADER.set(1)
        log.info("scheduler.leading")
