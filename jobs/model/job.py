"""A job as its row describes it, and the defaults of an enqueue."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from callboard.jobs.model.states import TERMINAL, JobState

#: The ways a job can be enqueued: every value of a job's `source`.
SOURCES: Final = ("cli", "http", "webhook", "schedule", "python", "sql", "job")
DEFAULT_QUEUE: Final = "default"
DEFAULT_PRIORITY: Final = 5
DEFAULT_MAX_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Source:
    """Where a job came from.

    door: how the job was enqueued; one of SOURCES.
    id:   who enqueued it: the name of an API key or a schedule, the id of a webhook delivery or of a parent
          job.
    request_id: the id of the HTTP request that it began with. A job has that of its parent job.
    """

    door: str
    id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Python, the CLI and HTTP show it. Times are timezone-aware, in UTC."""

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
    request_id: str | None

    @property
    def finished(self) -> bool:
        """Return whether the state is terminal."""
        return self.state in TERMINAL
