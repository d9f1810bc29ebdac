"""The values that travel between services and repositories.

Those that every attempt makes are named tuples, which cost a third of a frozen dataclass.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import orjson

from jobs.states import TERMINAL, JobState, Verb
from jobs.stored_json import readable

if TYPE_CHECKING:
    from jobs.dispatch import Dispatch

#: Sources: through which door a job came.
SOURCES: Final = ("cli", "http", "webhook", "schedule", "python", "sql", "job")
DEFAULT_QUEUE: Final = "default"
DEFAULT_PRIORITY: Final = 5
DEFAULT_MAX_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Source:
    """The door a job came through, and who stood there: a key's name, a schedule, a delivery, a parent job."""

    door: str
    id: str | None = None


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


class Hint(NamedTuple):
    """That a queued job may be claimed: its token (id, epoch) and what orders it. Redis carries these."""

    id: UUID
    epoch: int
    queue: str
    priority: int
    run_at: datetime
    #: Its queue is limited: only the feeder may bring it to Redis.
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job as everyone sees it; the fields are INTERFACE's job object. Times are aware, in UTC."""

    id: UUID
    name: str
    queue: str
    state: JobState
    priority: int
    args: list[Any]
    kwargs: dict[str, Any]
    attempt: int
    max_attempts: int
    run_at: datetime
    enqueued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    progress: float | None
    progress_note: str | None
    result: Any
    errors: list[dict[str, Any]]
    tags: list[str]
    source: str
    source_id: str | None
    unique_key: str | None
    worker_id: UUID | None
    timeout: timedelta | None
    cancel_requested_at: datetime | None
    crash_count: int
    hard_timeout: timedelta | None
    options: dict[str, Any] | None
    limit_key: str | None
    solo: bool
    put_off: int
    put_off_reason: str | None

    @property
    def finished(self) -> bool:
        return self.state in TERMINAL


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


class ClaimedJob(NamedTuple):
    """An attempt that this worker, and no other, may run; every write names its epoch and its claim."""

    id: UUID
    epoch: int
    claim_id: UUID
    name: str
    queue: str
    priority: int
    #: JSON, as it is stored; both empty while they are too large to have come with the claim.
    args_json: str
    kwargs_json: str
    attempt: int
    max_attempts: int
    timeout: timedelta | None
    run_at: datetime
    enqueued_at: datetime
    started_at: datetime
    hard_timeout: timedelta | None
    options: dict[str, Any] | None
    put_off: int
    #: Whether its queue is limited; the feeder is told of its end. None: there is no such queue.
    limited: bool | None = None

    @property
    def args(self) -> list[Any] | None:
        """The positional arguments; None when the stored JSON cannot be read."""
        value: list[Any] | None = readable(self.args_json)
        return value

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """The named arguments; None when the stored JSON cannot be read."""
        value: dict[str, Any] | None = readable(self.kwargs_json)
        return value


@dataclass(frozen=True, slots=True)
class AttemptError:
    """Why an attempt failed, as it is kept with the job."""

    attempt: int
    at: datetime
    error_class: str
    message: str
    traceback: str
    worker: str

    def entry(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "class": self.error_class,
            "message": self.message,
            "traceback": self.traceback,
            "worker": self.worker,
        }


class Finish(NamedTuple):
    """How an attempt ends: the verb, and what it writes. `result` is encoded JSON."""

    id: UUID
    epoch: int
    claim_id: UUID
    verb: Verb
    result: bytes | None = None
    error: AttemptError | None = None
    delay: timedelta | None = None
    #: With snooze: why this worker cannot run the job; set only where the function was never called.
    put_off: str | None = None
    #: Jobs that this end brings about: they are enqueued in its transaction, if it is not refused as stale.
    children: "tuple[Dispatch, ...]" = ()


class Cancelled(NamedTuple):
    """What a cancel came to: cancelled, or still running and asked to stop."""

    id: UUID
    state: JobState
    queue: str
    name: str


class Finished(NamedTuple):
    """What a finish came to."""

    id: UUID
    state: JobState


class CancelRequest(NamedTuple):
    """A running job that somebody wants stopped; `forced`: whatever it says to that."""

    id: UUID
    epoch: int
    forced: bool


class TakenBack(NamedTuple):
    """What became of a job whose worker died. `blamed`: it may have been the cause."""

    id: UUID
    name: str
    queue: str
    state: JobState
    blamed: bool
    crash_count: int
    suspected: int
    solo: bool


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """When a schedule ticks: exactly one of cron, every (counted from `anchor`) and at is set."""

    cron: str | None
    every: timedelta | None
    at: datetime | None
    timezone: str
    dst_gap: str
    anchor: datetime
