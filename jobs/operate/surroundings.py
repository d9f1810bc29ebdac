"""What `job why` asks of Postgres: how things stand around one job. Reads alone, each by index and bounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

#: Jobs that are counted at most: a longer backlog is "at least" this.
MOST_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The database's time, the worker that has the job, and the job's queue with its limits."""

    now: datetime
    #: Whether this attempt has its grant, where the queue is limited.
    granted: bool
    worker: str | None
    paused_at: datetime | None = None
    concurrency: int | None = None
    rate: int | None = None
    rate_period: timedelta | None = None
    key_concurrency: int | None = None
    key_rate: int | None = None
    key_rate_period: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A live worker that serves the job's queue, whether it knows the job's name, and how many jobs it holds."""

    place: str
    knows: bool
    threads: int
    slots: int
    running: int


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a concurrency is in use, and some of the jobs that use it, the oldest first."""

    number: int
    jobs: Sequence[UUID]
