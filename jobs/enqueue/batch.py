"""The values that travel between services and repositories.

Those that every attempt makes are named tuples, which cost a third of a frozen dataclass.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import orjson

from callboard.jobs.model.states import JobState

if TYPE_CHECKING:
    pass
from collections.abc import Sequence

from callboard.jobs.model.job import Job, Source


class NewJob(NamedTuple):
    """A checked enqueue, ready to be written; `arguments` are encoded JSON."""

    id: UUID
    name: str
    queue: str
    args: bytes
    kwargs: bytes
    priority: int
    max_attempts: int
    run_at: datetime | None
    delay: timedelta | None
    expires_at: datetime | None
    unique_key: str | None
    tags: tuple[str, ...]
    timeout: timedelta | None
    source: Source
    hard_timeout: timedelta | None = None
    #: Encoded JSON, as `JobOptions` of jobs/requests.py.
    options: bytes | None = None
    limit_key: str | None = None
    #: How long the unique key is held whatever becomes of the job, counted from the enqueue.
    unique_for: timedelta | None = None
    #: When the key is held: existing | replace | reject.
    on_conflict: str = "existing"


class Receipt(NamedTuple):
    """What an enqueue came to: the job that now stands, which is an older one when `existed`.

    replaced: the older one has these arguments and this time now. moved: it runs, and its unique key is this new job's.
    """

    id: UUID
    name: str
    queue: str
    state: JobState
    existed: bool
    replaced: bool = False
    moved: bool = False


def as_written(new: NewJob, receipt: Receipt, now: datetime | None) -> Job | None:
    """A job that is new and was due at once, at this time of the database: known to the last column. Any other must be read."""
    if receipt.existed or now is None or new.run_at is not None or new.delay is not None:
        return None
    return Job(
        id=new.id,
        name=new.name,
        queue=new.queue,
        state=JobState.QUEUED,
        priority=new.priority,
        args=orjson.loads(new.args),
        kwargs=orjson.loads(new.kwargs),
        attempt=0,
        max_attempts=new.max_attempts,
        run_at=now,
        enqueued_at=now,
        started_at=None,
        finished_at=None,
        expires_at=new.expires_at,
        progress=None,
        progress_note=None,
        result=None,
        errors=[],
        tags=list(new.tags),
        source=new.source.door,
        source_id=new.source.id,
        unique_key=new.unique_key,
        worker_id=None,
        timeout=new.timeout,
        cancel_requested_at=None,
        crash_count=0,
        hard_timeout=new.hard_timeout,
        options=None if new.options is None else orjson.loads(new.options),
        limit_key=new.limit_key,
        solo=False,
        put_off=0,
        put_off_reason=None,
    )


class Alike(NamedTuple):
    """Jobs that are as `like` but for what is listed here, of each in turn; none has a unique key."""

    like: NewJob
    ids: Sequence[UUID]
    args: Sequence[bytes]
    kwargs: Sequence[bytes]
    source_ids: Sequence[str | None]

    def parts(self, size: int) -> "list[Alike]":
        """The same in parts of at most so many."""
        cuts = [slice(start, start + size) for start in range(0, len(self.ids), size)]
        return [
            Alike(self.like, self.ids[cut], self.args[cut], self.kwargs[cut], self.source_ids[cut])
            for cut in cuts
        ]


class Written(NamedTuple):
    """What jobs that are alike have in common, too, once they are written."""

    run_at: datetime
    limited: bool
    state: JobState


_SOURCE: Final = NewJob._fields.index("source")


def alike(jobs: Sequence[NewJob]) -> Alike | None:
    """These jobs as such that are alike; None when they differ in more than that, or have a unique key."""
    if not jobs or jobs[0].unique_key is not None:
        return None
    first = jobs[0]
    names, middle, rest, door = first[1:3], first[5:_SOURCE], first[_SOURCE + 1 :], first.source.door
    for job in jobs:
        if (
            job[1:3] != names
            or job[5:_SOURCE] != middle
            or job[_SOURCE + 1 :] != rest
            or job.source.door != door
        ):
            return None
    return Alike(
        first,
        [job.id for job in jobs],
        [job.args for job in jobs],
        [job.kwargs for job in jobs],
        [job.source.id for job in jobs],
    )
