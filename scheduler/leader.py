"""Leadership of one scheduler. A single leader saves work; correctness never depends on it."""

from collections.abc import Callable
from typing import TypeVar

import structlog
from prometheus_client import Gauge

from callboard.jobs.errors import Busy, SchemaMismatch
from callboard.jobs.outage import Outage
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.leadership import Leadership

T = TypeVar("T")
LEADER = Gauge("callboard_scheduler_leader", "1 in the scheduler that leads, 0 in those that stand by.")

log = structlog.get_logger(__name__)


class Leader:
    """Holds the leader's lock or tries to take it.

    If its connection breaks, a standby takes the lock within seconds.
    """

    def __init__(self, database: Database) -> None:
        self._leadership = Leadership(database)
        self._outage = Outage(log, "scheduler.waiting", "scheduler.recovered", loop="lead")
        LEADER.set(0)

    @property
    def leads(self) -> bool:
        return self._leadership.is_held

    def check(self) -> None:
        """Verify that the lock is still held, or try to take it."""
        try:
            if self._leadership.is_held:
                self._leadership.verify()
            elif self._leadership.take():
                LEADER.set(1)
                log.info("scheduler.leading")
            self._outage.over()
        except Exception as error:  # noqa: BLE001 - after almost any error the lock counts as lost
            self._failed(error)

    def ask(self, work: Callable[[Leadership], T]) -> T | None:
        """Run `work` on the connection that holds the lock; return its result, or None if not the leader.

        Raises what `work` raises. The lock is released then, unless Postgres only refused a statement.
        """
        if not self._leadership.is_held:
            return None
        try:
            return work(self._leadership)
        except Exception as error:
            self._failed(error)
            raise

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Busy | SchemaMismatch) and self._leadership.is_connected:
            return
        led = self.leads
        self.resign()
        reason = str(error)[:200]
        if led:
            log.warning("scheduler.leadership_lost", reason=reason)
        else:
            self._outage.failed(reason)

    def resign(self) -> None:
        """Release the lock."""
        LEADER.set(0)
        try:
            self._leadership.release()
        except Exception as error:  # noqa: BLE001 - a broken connection may raise any error when it is closed
            log.debug("scheduler.close_failed", reason=str(error)[:200])
