"""Values: a worker with its lease, and a queue that a worker serves."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """The data that a worker publishes about itself at its start."""

    id: UUID
    hostname: str
    pid: int
    queues: tuple[str, ...]
    job_names: tuple[str, ...]
    threads: int
    slots: int
    #: The versions of its jobs, as name@digest; None: they are not known.
    job_versions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has a row. The lease is live until `lease_expires_at`.

    running: the jobs that have begun. claimed: the jobs that it holds ahead, which have not begun. The
    division is some seconds old, their sum is exact.
    """

    id: UUID
    hostname: str
    pid: int
    queues: list[str]
    threads: int
    slots: int
    started_at: datetime
    lease_expires_at: datetime
    draining_since: datetime | None
    running: int
    claimed: int


class HoldKind(StrEnum):
    """What a job holds that other jobs of its worker process need too."""

    #: The event loop: async jobs wait.
    LOOP = "loop"
    #: The interpreter lock: all jobs wait.
    INTERPRETER = "interpreter"


@dataclass(frozen=True, slots=True)
class Hold:
    """A job holds the event loop or the interpreter of its worker process.

    job_id: None when it may be one of several. seconds: for how long until now.
    """

    kind: HoldKind
    job_id: UUID | None
    seconds: float


class ServedQueue(NamedTuple):
    """A queue that workers can serve.

    counts_running: the queue's limits count the jobs that run, and more than only those of each key.
    counts_by_key: they count only the jobs of each key that run.
    counts_starts: they count starts.
    ready: a worker can claim from it: it is not paused and has a queued job or, if it is limited, an unused
           grant.
    """

    name: str
    counts_running: bool
    counts_by_key: bool
    counts_starts: bool
    ready: bool
