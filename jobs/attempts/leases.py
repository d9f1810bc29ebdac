"""Workers as others see them: leases taken, renewed and ended, and what becomes of a dead worker's jobs."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import Connection

from callboard.jobs.attempts.repository import claiming, lease_rows, rescuing
from callboard.jobs.attempts.worker import Worker, WorkerCard
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import HARD_TIMEOUTS, JOB_CRASHES, JOB_RESCUES, JOBS_QUARANTINED
from callboard.jobs.model.endings import TakenBack
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.redis.transport import Transport

NOBODY: Final[Mapping[UUID, float]] = MappingProxyType({})
#: The event of a job whose process was killed because of it.
_ENDED: Final = {
    JobState.RETRYING: "job.retried",
    JobState.FAILED: "job.failed",
    JobState.CANCELLED: "job.cancelled",
}

log = structlog.get_logger(__name__)


class Workers:
    """Leases. A worker that holds none cannot claim, and what it still writes is refused."""

    def __init__(self, database: Database, transport: Transport, *, ttl: timedelta) -> None:
        self._database = database
        self._transport = transport
        self.ttl = ttl

    def live(self) -> list[Worker]:
        with self._database.autocommit() as connection:
            return lease_rows.live(connection)

    def register(self, card: WorkerCard) -> None:
        with self._database.transaction() as connection:
            lease_rows.register(connection, card, self.ttl)
        log.info(
            "worker.registered", worker_id=str(card.id), pid=card.pid, threads=card.threads, slots=card.slots
        )

    def renew(self, ids: Sequence[UUID]) -> set[UUID]:
        """Lengthen leases; returns those that still hold. One that is missing is lost for good."""
        with self._database.autocommit() as connection:
            return lease_rows.renew(connection, ids, self.ttl)

    def drain(self, worker: UUID) -> None:
        with self._database.autocommit() as connection:
            lease_rows.drain(connection, worker)

    def end(
        self,
        worker: UUID,
        suspects: Sequence[UUID] | None,
        *,
        how: str = rescuing.LEASE_RAN_OUT,
        overdue: Mapping[UUID, float] = NOBODY,
    ) -> int:
        """End a worker that is dead for certain, at once; returns how many jobs were taken back from it.

        suspects: the jobs that had begun when it died; None when nobody knows. A worker that ended well has none.
        how:      how it died, for the errors of the job that is the cause.
        overdue:  the jobs for which it was killed, and their hard timeouts in seconds; 0 stands for a forced cancel.
        """
        told = [(job, _overrun(overdue[job])) for job in sorted(overdue)]

        def work(connection: Connection) -> tuple[list[TakenBack], list[TakenBack], list[Hint]]:
            held = lease_rows.lock(connection, [worker])
            ended = rescuing.overrun(connection, worker, told) if held and told else []
            return ended, *_rescue(connection, held, suspects, how)

        ended, moved, hints = self._database.retrying(work)
        for job in ended:
            HARD_TIMEOUTS.labels(job.queue, job.name).inc()
            event, limit = _ENDED[job.state], overdue[job.id]
            log.warning(event, job_id=str(job.id), job=job.name, hard_timeout=limit or None, killed=True)
        return self._taken_back([*ended, *moved], moved, hints)

    def reap(self) -> int:
        """End all workers whose lease has run out; returns how many jobs were taken back."""

        def work(connection: Connection) -> tuple[list[TakenBack], list[Hint]]:
            held = lease_rows.lock_expired(connection)
            for worker in held:
                log.warning("worker.lease_expired", worker_id=str(worker))
            return _rescue(connection, held, None, rescuing.LEASE_RAN_OUT)

        moved, hints = self._database.retrying(work)
        return self._taken_back(moved, moved, hints)

    def solo_waiting(self, ids: Sequence[UUID], queues: Sequence[str], limit: int) -> int:
        """How many jobs that these workers know wait to be run alone, up to a limit; of these queues, or of any."""
        with self._database.autocommit() as connection:
            return claiming.solo_waiting(connection, ids, queues, limit)

    def forced(self, ids: Sequence[UUID]) -> set[UUID]:
        """The jobs that these workers run whose cancellation is forced."""
        with self._database.autocommit() as connection:
            return lease_rows.forced(connection, ids)

    def _taken_back(
        self, all_: Sequence[TakenBack], rescued: Sequence[TakenBack], hints: Sequence[Hint]
    ) -> int:
        for job in rescued:
            _tell(job)
        try:
            self._transport.push(hints)
            self._transport.announce([job.id for job in all_ if job.state.is_terminal])
        except Unavailable as error:
            log.debug("redis.push_skipped", reason=error.message, count=len(hints))
        return len(all_)


def _tell(job: TakenBack) -> None:
    which = {"job_id": str(job.id), "job": job.name, "queue": job.queue, "crash_count": job.crash_count}
    if job.blamed and job.suspected:
        log.warning("job.suspected", **which, suspected=job.suspected, solo=job.solo)
    elif job.blamed:
        JOB_CRASHES.labels(job.queue, job.name).inc()
        log.warning("job.crashed", **which)
    if job.state is JobState.QUEUED:
        JOB_RESCUES.labels(job.queue).inc()
        log.warning("job.rescued", **which)
    elif job.state is JobState.QUARANTINED:
        JOBS_QUARANTINED.labels(job.queue, job.name).inc()
        log.error("job.quarantined", **which)
    else:
        log.warning("job.cancelled", **which)


def _overrun(limit: float) -> str:
    if limit:
        return f"the attempt took longer than its hard timeout of {limit:g} s, and its process was killed"
    return "cancelled by force: it did not stop, and its process was killed"


def _rescue(
    connection: Connection, held: Sequence[UUID], suspects: Sequence[UUID] | None, how: str
) -> tuple[list[TakenBack], list[Hint]]:
    if not held:
        return [], []
    moved, hints = rescuing.rescue(connection, held, suspects, how)
    notices.limited(connection, hints)
    lease_rows.remove(connection, held)
    return moved, hints
