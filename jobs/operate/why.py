"""The service that explains why a job is not running: the reasons that apply now, most important first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from callboard.jobs.errors import NotFound
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from callboard.jobs.operate import claim_reasons, reasons, version_reasons
from callboard.jobs.operate.reasons import Reason
from callboard.jobs.operate.repository import diagnosing, explaining, reading
from callboard.jobs.operate.surroundings import ServingWorker, Surroundings
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection

#: An expiry is a reason if the job expires within this time.
_SOON: Final = timedelta(minutes=5)
#: States that the scheduler ends when the job is due.
_TIMED: Final = frozenset({JobState.SCHEDULED, JobState.RETRYING})


@dataclass(frozen=True, slots=True)
class Explanation:
    """The state of a job and the reasons for it, at least one."""

    job_id: UUID
    name: str
    queue: str
    state: JobState
    reasons: tuple[Reason, ...]


class Why:
    """Explains jobs; changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def explain(
        self,
        job_id: UUID,
        *,
        name_others: bool = True,
        is_visible: Callable[[Job], bool] = lambda _job: True,
    ) -> Explanation:
        """Return why this job does not run, or that it runs or has ended. Raises NotFound.

        name_others: whether a reason may name the ids of other jobs.
        is_visible:  whether the caller may see the job; if not, it is as if it did not exist.
        """
        with self._database.autocommit() as connection:
            job = reading.get(connection, job_id)
            visible = job is not None and is_visible(job)
            around = explaining.surroundings(connection, job) if job is not None and visible else None
            if job is None or around is None:
                raise NotFound(f"there is no job {job_id}")
            found = tuple(_reasons(connection, job, around, name_others=name_others))
            return Explanation(job.id, job.name, job.queue, job.state, found)

    def is_claimed_ahead(self, job: Job) -> bool:
        """Return whether a worker holds the job and is known not to have begun it."""
        if job.state is not JobState.RUNNING:
            return False
        with self._database.autocommit() as connection:
            around = explaining.surroundings(connection, job)
            return around is not None and around.begun is False


def _reasons(
    connection: Connection, job: Job, around: Surroundings, *, name_others: bool
) -> Iterator[Reason]:
    if job.finished:
        yield reasons.finished(job, around.now)
    elif job.state is JobState.RUNNING:
        if around.worker is not None and around.begun is False:
            yield claim_reasons.claimed(job, around.worker, around.now)
        else:
            yield reasons.running(job, around.worker, around.now)
        if (hold := explaining.hold(connection, job)) is not None:
            yield reasons.held(job, hold, around.now, name_others=name_others)
        if job.cancel_requested_at is not None:
            yield reasons.cancel_requested(job, job.cancel_requested_at, around.now)
    else:
        hindrances = list(_hindrances(connection, job, around, name_others=name_others))
        if not hindrances:
            yield reasons.ready(job, around.now)
        yield from hindrances
        if job.expires_at is not None and job.expires_at - around.now < _SOON:
            yield reasons.expires_soon(job.expires_at, around.now)


def _hindrances(
    connection: Connection, job: Job, around: Surroundings, *, name_others: bool
) -> Iterator[Reason]:
    queued = job.state is JobState.QUEUED
    # Without a leader, due jobs are not queued and no grants are made. A plain queued job may still be
    # claimed.
    idle = [] if diagnosing.has_leader(connection) else [reasons.no_scheduler(job)]
    decisive = (job.state in _TIMED and job.run_at <= around.now) or (queued and _limited(around))
    if decisive:
        yield from idle
    if job.state in _TIMED and job.run_at > around.now:
        yield reasons.not_due(job, around.now)
    if job.state is JobState.WAITING:
        yield reasons.waiting_for_parents()
    if job.put_off and not queued:
        yield version_reasons.put_off(connection, job)
    if around.paused_at is not None:
        yield reasons.queue_paused(job, around.paused_at, around.now)
    if queued and not around.granted:
        yield from _limits(connection, job, around, name_others=name_others)
    servers = explaining.servers(connection, job)
    if job.solo:
        yield reasons.solo(servers)
    yield from _workers(job, servers)
    if queued and job.put_off:
        yield version_reasons.put_off(connection, job)
    if queued and not job.solo and (ahead := explaining.ahead(connection, job)):
        yield reasons.backlog(job, ahead)
    if not decisive:
        yield from idle


def _limited(around: Surroundings) -> bool:
    limits = (around.concurrency, around.rate, around.key_concurrency, around.key_rate)
    return any(limit is not None for limit in limits)


def _limits(connection: Connection, job: Job, around: Surroundings, *, name_others: bool) -> Iterator[Reason]:
    """Yield the limits that are used up; those of a key only if the job has a key."""
    for by_key, limit in ((False, around.concurrency), (True, around.key_concurrency)):
        if limit is not None and (job.limit_key is not None or not by_key):
            use = explaining.use(connection, job, limit, by_key=by_key)
            if use.number >= limit:
                jobs = use.jobs if name_others else []
                yield reasons.concurrency(job, limit, jobs, by_key=by_key)
    for by_key, limit, period in (
        (False, around.rate, around.rate_period), (True, around.key_rate, around.key_rate_period),
    ):  # fmt: skip
        if limit is not None and period is not None and (job.limit_key is not None or not by_key):
            until = explaining.filled_until(connection, job, limit, period, by_key=by_key)
            if until is not None:
                yield reasons.rate(job, limit, period, until, around.now, by_key=by_key)


def _workers(job: Job, servers: list[ServingWorker]) -> Iterator[Reason]:
    able = [server for server in servers if server.knows]
    if not servers:
        yield reasons.no_worker(job)
    elif not able:
        yield reasons.job_unknown(job, servers)
    elif job.state is JobState.QUEUED and not job.solo and all(one.running >= one.threads for one in able):
        yield reasons.workers_busy(able)
