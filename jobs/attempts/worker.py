"""Workers and their leases. A lease is live while its row is there and lease_expires_at lies ahead."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What a worker says of itself at boot."""

    id: UUID
    hostname: str
    pid: int
    queues: tuple[str, ...]
    job_names: tuple[str, ...]
    threads: int
    slots: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that holds a lease, and how many jobs it runs."""

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
