"""What the supervisor sends to the new process of a worker child."""

from dataclasses import dataclass
from uuid import UUID

from callboard.config.settings import Settings


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """The worker's id, and what it works with."""

    worker_id: UUID
    settings: Settings
    database_url: str
    redis_url: str
    #: Run the jobs that must run alone, one after another, and end when there are none.
    solo: bool = False
