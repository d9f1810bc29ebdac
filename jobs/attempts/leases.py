"""The service for workers and their leases: take, renew and end leases; rescue jobs of dead workers."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.attempts.repository import claiming, lease_rows, rescuing
from callboard.jobs.attempts.worker import Hold, Worker, WorkerCard
from callboard.jobs.metrics import HARD_TIMEOUTS, JOB_CRASHES, JOB_RESCUES, JOBS_QUARANTINED
from callboard.jobs.model.endings import TakenBack
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.redis.transport import Transport, best_effort

NO_JOBS: Final[Mapping[UUID, float]] = MappingProxyType({})
NOTHING_NEW: Final[Mapping[UUID, Sequence[UUID]]] = MappingProxyType({})
#: The log event of a job that caused the kill of its process, by the job's new state.
_EVENTS: Final = {
    JobState.RETRYING: "job.retried",
    JobState.FAILED: "job.failed",
    JobState.CANCELLED: "job.cancelled",
}

log = structlog.get_logger(__name__)


class Workers:
    """Leases. A worker without a lease cannot claim, and its writes are refused.

    `ttl`: how long a lease lasts.
    """

    def __init__(self, database: Database, transport: Transport, *, ttl: timedelta) -> None:
        self._database = database
        self._transport = transport
        self.ttl = ttl

    def live(self) -> list[Worker]:
        """Return the workers that have a lease, the longest-running first."""
        with self._database.autocommit() as connection:
            return lease_rows.live(connection)

    def register(self, card: WorkerCard) -> None:
        """Give a new worker a lease."""
        self._database.retrying(lambda connection: lease_rows.register(connection, card, self.ttl))
        log.info(
            "worker.registered", worker_id=str(card.id), pid=card.pid, threads=card.threads, slots=card.slots
        )

    def renew(self, ids: Sequence[UUID], begun: Mapping[UUID, Sequence[UUID]] = NOTHING_NEW) -> set[UUID]:
        """Renew leases; return the workers that still have one. A missing worker has lost its lease.

        begun: by worker, the jobs that have begun there and not ended. Without it, what is stored stays.
        """
        with self._database.autocommit() as connection:
            return lease_rows.renew(connection, ids, self.ttl, begun)

    def shorten(self) -> int:
        """Let no lease last longer than a new one; return how many did.

        A lease lasts too long when the database's clock was set back after its last renewal. A worker that
        lives renews it.
        """
        with self._database.autocommit() as connection:
            return lease_rows.shorten(connection, self.ttl)

    def drain(self, worker: UUID) -> None:
        """Mark a worker as draining: it claims no more jobs."""
        with self._database.autocommit() as connection:
            lease_rows.drain(connection, worker)

    def hold(self, worker: UUID, found: Hold) -> None:
        """Store that a job holds what others of a worker need. The worker itself removes it."""
        with self._database.autocommit() as connection:
            lease_rows.hold(connection, worker, found)

    def end(
        self,
        worker: UUID,
        suspects: Sequence[UUID] | None,
        *,
        how: str = rescuing.LEASE_RAN_OUT,
        overdue: Mapping[UUID, float] = NO_JOBS,
    ) -> int:
        """End the lease of a worker that is known to be dead; take its jobs back and return how many.

        suspects: the jobs that had started when it died; None when they are not known. A clean end has no
                  suspects.
        how:      how it died. The text goes into the errors of the job that caused it.
        overdue:  the jobs because of which it was killed, each with its hard timeout in seconds; 0 for a
                  forced cancel.
        """
        messages = [(job, _overrun(overdue[job])) for job in sorted(overdue)]

        def work(connection: Connection) -> tuple[list[TakenBack], list[TakenBack], list[Hint]]:
            held = lease_rows.lock(connection, [worker])
            ended = rescuing.overrun(connection, worker, messages) if held and messages else []
            return ended, *_rescue(connection, held, suspects, how)

        ended, moved, hints = self._database.retrying(work)
        for job in ended:
            HARD_TIMEOUTS.labels(job.queue, job.name).inc()
            event, limit = _EVENTS[job.state], overdue[job.id]
            (log.error if job.state is JobState.FAILED else log.warning)(
                event,
                **job.log_fields,
                error=rescuing.CANCELLED if job.state is JobState.CANCELLED else rescuing.TIMED_OUT,
                message=_overrun(limit),
                hard_timeout=limit or None,
                killed=True,
            )
        return self._taken_back([*ended, *moved], moved, hints, how)

    def reap(self) -> int:
        """End all leases that have run out and take the workers' jobs back; return how many jobs."""

        def work(connection: Connection) -> tuple[list[TakenBack], list[Hint]]:
            held = lease_rows.lock_expired(connection)
            for worker in held:
                log.warning("worker.lease_expired", worker_id=str(worker))
            return _rescue(connection, held, None, rescuing.LEASE_RAN_OUT)

        moved, hints = self._database.retrying(work)
        return self._taken_back(moved, moved, hints, rescuing.LEASE_RAN_OUT)

    def solo_waiting(self, ids: Sequence[UUID], queues: Sequence[str], limit: int) -> int:
        """Return how many jobs wait to run alone and are known to these workers, up to a limit.

        No queues: of any queue.
        """
        with self._database.autocommit() as connection:
            return claiming.solo_waiting(connection, ids, queues, limit)

    def forced(self, ids: Sequence[UUID]) -> set[UUID]:
        """Return the jobs of these workers whose cancel is forced."""
        with self._database.autocommit() as connection:
            return lease_rows.forced(connection, ids)

    def live_ids(self) -> list[UUID]:
        """Return the ids of the workers whose lease is live."""
        with self._database.autocommit() as connection:
            return lease_rows.ids(connection)

    def _taken_back(
        self, all_: Sequence[TakenBack], rescued: Sequence[TakenBack], hints: Sequence[Hint], how: str
    ) -> int:
        for job in rescued:
            _log(job, how)
        with best_effort("push", count=len(hints)):
            self._transport.push(hints)
            self._transport.announce([job.id for job in all_ if job.state.is_terminal])
        return len(all_)


def _log(job: TakenBack, how: str) -> None:
    which = {**job.log_fields, "crash_count": job.crash_count}
    if job.blamed and job.suspected:
        log.warning("job.suspected", **which, suspected=job.suspected, solo=job.solo)
    elif job.blamed:
        JOB_CRASHES.labels(job.queue, job.name).inc()
        log.warning("job.crashed", **which, message=how)
    if job.state is JobState.QUEUED:
        JOB_RESCUES.labels(job.queue).inc()
        log.warning("job.rescued", **which)
    elif job.state is JobState.QUARANTINED:
        JOBS_QUARANTINED.labels(job.queue, job.name).inc()
        log.error("job.quarantined", **which, error=rescuing.WORKER_DIED, message=how)
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
