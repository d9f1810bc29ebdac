"""The service for operators' commands on queues: list, show, pause, resume, limit and purge."""

from collections.abc import Callable
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from callboard.jobs.definitions import repository as definitions_repository
from callboard.jobs.errors import NotFound
from callboard.jobs.limits.repository import limiting
from callboard.jobs.metrics import count_cancelled
from callboard.jobs.model.basics.fields import QueueName, invalid_input
from callboard.jobs.model.endings import Cancelled
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.operate.queue_counts import Gauged, QueueCounts
from callboard.jobs.operate.repository import moving, queue_rows
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.redis.transport import Transport, best_effort

_BATCH: Final = 1_000
_QUEUE_NAME: Final = TypeAdapter(QueueName)

log = structlog.get_logger(__name__)


class Queues:
    """Reads and changes whole queues."""

    def __init__(self, database: Database, transport: Transport) -> None:
        self._database = database
        self._transport = transport

    def every(self) -> list[QueueCounts]:
        """Return all queues, sorted by name."""
        with self._database.autocommit() as connection:
            return queue_rows.counts(connection)

    def gauged(self) -> list[Gauged]:
        """Return all queues with the number of their workers, read with one statement."""
        with self._database.autocommit() as connection:
            return queue_rows.gauged(connection)

    def suspects(self) -> dict[str, int]:
        """Return the queues in which jobs wait to run alone, with the number of jobs."""
        with self._database.autocommit() as connection:
            return queue_rows.suspects(connection)

    def get(self, name: str) -> QueueCounts:
        """Return one queue. Raises NotFound."""
        with self._database.autocommit() as connection:
            found = queue_rows.count(connection, name)
        if found is None:
            raise NotFound(f"there is no queue {name[:100]!r}")
        return found

    def pause(self, name: str) -> QueueCounts:
        """Start no more jobs of this queue until it is resumed. Running jobs continue. Raises NotFound."""
        found = self._database.retrying(lambda connection: queue_rows.pause(connection, name))
        self._check(name, found=found)
        self._forget(name)
        log.info("queue.paused", queue=name)
        return self.get(name)

    def resume(self, name: str) -> QueueCounts:
        """Start the jobs of a paused queue again. Raises NotFound."""

        def work(connection: Connection) -> bool:
            found = queue_rows.resume(connection, name)
            notices.queued(connection, [name] if found else [])
            return found

        found = self._database.retrying(work)
        self._check(name, found=found)
        log.info("queue.resumed", queue=name)
        return self.get(name)

    def limit(self, name: str, change: Limits | Callable[[Limits], Limits]) -> QueueCounts:
        """Set or change a queue's limits. They apply at once to all workers.

        The queue may have no jobs yet. Running jobs continue, even if the new limits allow fewer.
        """
        _check_name(name)

        def work(connection: Connection) -> Limits:
            definitions_repository.declare(connection, [name])
            now = limiting.now(connection, name)
            wanted = change if isinstance(change, Limits) else change(now)
            limiting.change(connection, name, wanted)
            notices.queued(connection, [name])
            return wanted

        wanted = self._database.retrying(work)
        # A claim would refuse the tokens of jobs without a grant.
        self._forget(name)
        log.info("queue.limited", queue=name, **wanted.written())
        return self.get(name)

    def purge(self, name: str, *, dry_run: bool = False) -> int:
        """Cancel all queued jobs, but not scheduled or running ones; return how many. Raises NotFound."""
        counts = self.get(name)
        if dry_run:
            return counts.queued

        def work(connection: Connection) -> list[Cancelled]:
            return moving.cancel(connection, queue_rows.purgeable(connection, name, _BATCH))

        purged = 0
        while True:
            moved = self._database.retrying(work)
            count_cancelled(moved)
            purged += len(moved)
            if not moved:
                break
        self._forget(name)
        log.info("queue.purged", queue=name, count=purged)
        return purged

    def _forget(self, name: str) -> None:
        # Tokens that are left in Redis are out of date: no claim takes them.
        with best_effort("forget", queue=name):
            self._transport.forget(name)

    @staticmethod
    def _check(name: str, *, found: bool) -> None:
        if not found:
            raise NotFound(f"there is no queue {name[:100]!r}")


def _check_name(name: str) -> None:
    try:
        _QUEUE_NAME.validate_python(name)
    except ValidationError as error:
        raise invalid_input(error, prefix="queue") from None
