"""What an enqueue came to: a receipt for each job, and what has to be told to Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson

from callboard.jobs.errors import Conflict
from callboard.jobs.model.hint import Hint, Offer, offers_of, token
from callboard.jobs.model.job import Job
from callboard.jobs.model.new_job import AlikeJobs, MixedJobs, NewJob
from callboard.jobs.model.states import JobState


class Receipt(NamedTuple):
    """The job that now stands for an enqueue; it is an older one when `existed`.

    replaced: the older job got these arguments and this time.
    moved:    the older job runs, and its unique key belongs to this new one now.
    run_at:   when a new job is due, on the database's clock.
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
    """What the database decided for jobs that are alike; it is the same for all of them."""

    run_at: datetime
    limited: bool
    state: JobState


@dataclass(frozen=True, slots=True)
class WrittenAlike:
    """Jobs with the same settings that are written, in the parts in which they were."""

    parts: Sequence[tuple[AlikeJobs, AlikeRow]]

    @property
    def ids(self) -> list[UUID]:
        return [id_ for jobs, _ in self.parts for id_ in jobs.ids]

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
    """Jobs that are written each by its own settings. A key that is held and rejects others is a Conflict."""

    jobs: Sequence[NewJob]
    outcomes: Sequence[Receipt | Conflict]
    hints: Sequence[Hint]

    @property
    def ids(self) -> list[UUID]:
        return [receipt.id for receipt in self.receipts]

    @property
    def receipts(self) -> list[Receipt]:
        """One for each job, in their order; without those in conflict."""
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
    """The queues that have new queued jobs."""
    if isinstance(written, WrittenMixed):
        return sorted({hint.queue for hint in written.hints})
    return sorted({jobs.settings.queue for jobs, row in written.parts if row.state is JobState.QUEUED})


def job_as_written(batch: AlikeJobs | MixedJobs, receipt: Receipt) -> Job | None:
    """The job of a batch of one, if all of it is known: it is new and was due at once.

    Any other must be read.
    """
    [new] = batch.jobs
    settings, now = new.settings, receipt.run_at
    if receipt.existed or now is None or settings.run_at is not None or settings.delay is not None:
        return None
    return Job(
        id=new.id,
        name=settings.name,
        queue=settings.queue,
        state=JobState.QUEUED,
        priority=settings.priority,
        args=orjson.loads(new.args),
        kwargs=orjson.loads(new.kwargs),
        attempt=0,
        max_attempts=settings.max_attempts,
        run_at=now,
        enqueued_at=now,
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
        options=None if settings.options is None else orjson.loads(settings.options),
        limit_key=settings.limit_key,
        solo=False,
        put_off=0,
        put_off_reason=None,
    )
