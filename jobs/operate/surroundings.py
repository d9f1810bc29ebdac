"""A job's surroundings, for `job why`: its queue, the workers that serve it, and the use of its limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

#: A backlog is counted up to this number. A longer one is "at least" this.
MOST_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The database's time, the worker that runs the job, and the job's queue with its limits."""

    now: datetime
    #: Whether the attempt has a grant; matters in a limited queue only.
    granted: bool
    worker: str | None
    #: Whether the attempt had begun when its supervisor looked last; None when nobody looked since its claim.
    begun: bool | None = None
    paused_at: datetime | None = None
    concurrency: int | None = None
    rate: int | None = None
    rate_period: timedelta | None = None
    key_concurrency: int | None = None
    key_rate: int | None = None
    key_rate_period: timedelta | None = None


@dataclass(frozen=True, slots=True)
class WorkerHold:
    """A job holds the event loop ('loop') or the interpreter ('interpreter') of a worker process.

    job_id, name: None when it may be one of several, or when the job was deleted.
    """

    kind: str
    since: datetime
    job_id: UUID | None
    name: str | None


@dataclass(frozen=True, slots=True)
class ServingWorker:
    """A live worker that serves the job's queue.

    knows: whether it defines the job. running: how many jobs it holds.
    """

    place: str
    knows: bool
    threads: int
    slots: int
    running: int


@dataclass(frozen=True, slots=True)
class ConcurrencyUse:
    """How much of a concurrency is in use, and some of the jobs that use it, the oldest first."""

    number: int
    jobs: Sequence[UUID]
