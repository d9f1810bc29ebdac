"""The result of an enqueue: a receipt for each job, and the tokens to push to Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from callboard.jobs.errors import Conflict
from callboard.jobs.model.basics.ids import made_at
from callboard.jobs.model.basics.stored_json import parsed
from callboard.jobs.model.hint import Hint, Offer, offers_of, token
from callboard.jobs.model.job import Job
from callboard.jobs.model.new_job import AlikeJobs, Batch, NewJob
from callboard.jobs.model.states import JobState


class Receipt(NamedTuple):
    """The job that an enqueue returns: a new job or, if `existed`, the older job that holds the unique key.

    replaced: the older job got these arguments and this time.
    moved:    the older job is running, and its unique key was given to this new job.
    run_at:   when a new job is due, by the database's clock.
    """

    id: UUID
    name: str
    queue: str
    state: JobState
    existed: bool
    replaced: bool = False
    moved: bool = False
    run_at: datetime | None = None


class AlikeRow(NamedTuple):
    """Values from the database that are the same for all jobs with the same settings."""

    run_at: datetime
    limited: bool
    state: JobState


@dataclass(frozen=True, slots=True)
class WrittenAlike:
    """Written jobs with the same settings, one part for each INSERT."""

    parts: Sequence[tuple[AlikeJobs, AlikeRow]]

    @property
    def ids(self) -> list[UUID]:
        return [id_ for jobs, _ in self.parts for id_ in jobs.ids]

    @property
    def count(self) -> int:
        return sum(len(jobs.ids) for jobs, _ in self.parts)

    @property
    def receipts(self) -> list[Receipt]:
        """One for each job, in their order."""
        return [
            Receipt(id_, jobs.settings.name, jobs.settings.queue, row.state, existed=False, run_at=row.run_at)
            for jobs, row in self.parts
            for id_ in jobs.ids
        ]

    @property
    def offers(self) -> list[Offer]:
        """The tokens to push: of jobs that are queued, in queues without limits."""
        return [
            Offer(
                jobs.settings.queue, jobs.settings.priority, row.run_at, [token(id_, 0) for id_ in jobs.ids]
            )
            for jobs, row in self.parts
            if row.state is JobState.QUEUED and not row.limited
        ]


@dataclass(frozen=True, slots=True)
class WrittenMixed:
    """Written jobs with different settings. The outcome is a Conflict if a held unique key rejects a job."""

    jobs: Sequence[NewJob]
    outcomes: Sequence[Receipt | Conflict]
    hints: Sequence[Hint]

    @property
    def ids(self) -> list[UUID]:
        return [receipt.id for receipt in self.receipts]

    @property
    def receipts(self) -> list[Receipt]:
        """Return one receipt for each job, in the same order, except for the jobs with a Conflict."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Receipt)]

    @property
    def offers(self) -> list[Offer]:
        """The tokens to push: of jobs that are queued, in queues without limits."""
        return offers_of(self.hints)

    @property
    def conflicts(self) -> list[Conflict]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Conflict)]


Written = WrittenAlike | WrittenMixed


def queues_of(written: Written) -> list[str]:
    """Return the queues that have new queued jobs."""
    if isinstance(written, WrittenMixed):
        return sorted({hint.queue for hint in written.hints})
    return sorted({jobs.settings.queue for jobs, row in written.parts if row.state is JobState.QUEUED})


def job_as_written(new: NewJob, receipt: Receipt) -> Job | None:
    """Return the job, if it needs no read: it is new and due at once.

    Every other job must be read from the database.
    """
    settings, now = new.settings, receipt.run_at
    if receipt.existed or now is None or settings.run_at is not None or settings.delay is not None:
        return None
    return _job(new, receipt, run_at=now, enqueued_at=now)


def job_as_known(new: NewJob, receipt: Receipt) -> Job | None:
    """Return a committed job that cannot be read, as the enqueue knows it; None if an older enqueue wrote it.

    Times that only the database knows are estimated from the creation time in the job's id.
    """
    if receipt.existed and not receipt.replaced:
        return None
    settings = new.settings
    now = datetime.fromtimestamp(made_at(new.id) / 1000, UTC)
    due = receipt.run_at or settings.run_at or now + (settings.delay or timedelta(0))
    return _job(new, receipt, run_at=due, enqueued_at=now)


def _job(new: NewJob, receipt: Receipt, *, run_at: datetime, enqueued_at: datetime) -> Job:
    settings = new.settings
    return Job(
        id=receipt.id,
        name=settings.name,
        queue=settings.queue,
        state=receipt.state,
        priority=settings.priority,
        args=parsed(new.args),
        kwargs=parsed(new.kwargs),
        attempt=0,
        max_attempts=settings.max_attempts,
        run_at=run_at,
        enqueued_at=enqueued_at,
        started_at=None,
        finished_at=None,
        expires_at=settings.expires_at,
        progress=None,
        progress_note=None,
        result=None,
        errors=[],
        tags=list(settings.tags),
        source=settings.door,
        source_id=new.source_id,
        unique_key=None if new.unique is None else new.unique.key,
        worker_id=None,
        timeout=settings.timeout,
        cancel_requested_at=None,
        crash_count=0,
        hard_timeout=settings.hard_timeout,
        options=None if settings.options is None else parsed(settings.options),
        limit_key=settings.limit_key,
        solo=False,
        put_off=0,
        put_off_reason=None,
        request_id=new.request_id,
    )


def split(batches: Sequence[Batch], written: Written) -> list[Written | Exception]:
    """Split the result of a group into one result for each caller. Each caller has one job."""
    if isinstance(written, WrittenAlike):
        [(_, row)] = written.parts
        return [WrittenAlike([(batch, row)]) for batch in batches if isinstance(batch, AlikeJobs)]
    return [
        WrittenMixed([job], [outcome], []) if isinstance(outcome, Receipt) else outcome
        for job, outcome in zip(written.jobs, written.outcomes, strict=True)
    ]
