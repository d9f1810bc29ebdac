"""Workers as others see them: leases taken, renewed and ended, and what becomes of a dead worker's jobs."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import Connection

from jobs.database import Database
from jobs.errors import Unavailable
from jobs.metrics import JOB_RESCUES
from jobs.records import Finished, Hint
from jobs.repositories import job_moves, workers
from jobs.repositories.workers import Worker, WorkerCard
from jobs.states import JobState
from jobs.transport import Transport

log = structlog.get_logger(__name__)


class Workers:
    """Leases. A worker that holds none cannot claim, and what it still writes is refused."""

    def __init__(self, database: Database, transport: Transport, *, ttl: timedelta) -> None:
        self._database = database
        self._transport = transport
        self.ttl = ttl

    def live(self) -> list[Worker]:
        with self._database.autocommit() as connection:
            return workers.live(connection)

    def register(self, card: WorkerCard) -> None:
        with self._database.transaction() as connection:
            workers.register(connection, card, self.ttl)
        log.info(
            "worker.registered", worker_id=str(card.id), pid=card.pid, threads=card.threads, slots=card.slots
        )

    def renew(self, ids: Sequence[UUID]) -> set[UUID]:
        """Lengthen leases; returns those that still hold. One that is missing is lost for good."""
        with self._database.autocommit() as connection:
            return workers.renew(connection, ids, self.ttl)

    def drain(self, worker: UUID) -> None:
        with self._database.autocommit() as connection:
            workers.drain(connection, worker)

    def end(self, worker: UUID, suspects: Sequence[UUID] | None) -> int:
        """End a worker that is dead for certain, at once; returns how many jobs were taken back from it.

        suspects: the jobs that had started when it died. A worker that ended well has none.
        """

        def work(connection: Connection) -> tuple[list[Finished], list[Hint]]:
            held = workers.lock(connection, [worker])
            return _rescue(connection, held, suspects)

        return self._rescued(*self._database.retrying(work))

    def reap(self) -> int:
        """End all workers whose lease has run out; returns how many jobs were taken back."""

        def work(connection: Connection) -> tuple[list[Finished], list[Hint]]:
            held = workers.lock_expired(connection)
            for worker in held:
                log.warning("worker.lease_expired", worker_id=str(worker))
            return _rescue(connection, held, None)

        return self._rescued(*self._database.retrying(work))

    def _rescued(self, moved: Sequence[Finished], hints: Sequence[Hint]) -> int:
        for hint in hints:
            JOB_RESCUES.labels(hint.queue).inc()
        for job in moved:
            log.warning(
                "job.rescued" if job.state is JobState.QUEUED else f"job.{job.state}", job_id=str(job.id)
            )
        try:
            self._transport.push(hints)
            self._transport.announce([job.id for job in moved if job.state is not JobState.QUEUED])
        except Unavailable as error:
            log.debug("redis.push_skipped", reason=error.message, count=len(hints))
        return len(moved)


def _rescue(
    connection: Connection, held: Sequence[UUID], suspects: Sequence[UUID] | None
) -> tuple[list[Finished], list[Hint]]:
    if not held:
        return [], []
    moved, hints = job_moves.rescue(connection, held, suspects)
    workers.remove(connection, held)
    return moved, hints
