"""Workers and their leases, and the queues as workers see them."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What a worker publishes about itself when it starts."""

    id: UUID
    hostname: str
    pid: int
    queues: tuple[str, ...]
    job_names: tuple[str, ...]
    threads: int
    slots: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has a row, and how many jobs it runs. The lease is live until `lease_expires_at`."""

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


class ServedQueue(NamedTuple):
    """A queue as workers see it.

    ready: the queue is not paused and a worker can claim from it: it has a queued job, or, if it is limited,
           a grant
    that is not used.
    """

    name: str
    limited: bool
    ready: bool
