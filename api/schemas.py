"""The objects that answers are made of; INTERFACE for programs, and the source of the OpenAPI document."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, computed_field

from callboard.jobs.model.durations import exact_duration
from callboard.jobs.model.queue_limits import Rate
from callboard.jobs.model.states import JobState

T = TypeVar("T", bound=BaseModel)


def _as_text(value: Any) -> Any:
    if isinstance(value, float):
        value = timedelta(seconds=value)
    return exact_duration(value) if isinstance(value, timedelta) else value


def _rate_text(value: Any) -> Any:
    return str(value) if isinstance(value, Rate) else value


Duration = Annotated[str, BeforeValidator(_as_text), Field(examples=["10m", "1h30m"])]
RateText = Annotated[str, BeforeValidator(_rate_text), Field(examples=["100/1m"])]


class Shown(BaseModel):
    """Read off the records of the domain, field by field of the same name. Times are ISO 8601 in UTC, with a Z."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class JobObject(Shown):  # type: ignore[no-redef]  # the plugin writes an __init__ with **kwargs
    """A job. The last four states are terminal."""

    # Describes what api/job_json.py writes.

    id: UUID
    name: str
    queue: str
    state: JobState
    priority: int = Field(description="0 to 9, 0 first")
    args: list[Any]
    kwargs: dict[str, Any]
    attempt: int = Field(description="attempts begun that count")
    max_attempts: int
    run_at: datetime = Field(description="due from here on")
    enqueued_at: datetime
    started_at: datetime | None = Field(description="when the last attempt began")
    finished_at: datetime | None = Field(description="set exactly in terminal states")
    progress: float | None = Field(description="0 to 1, as the job says")
    progress_note: str | None
    result: Any
    errors: list[dict[str, Any]] = Field(
        description="one entry for each failed attempt: attempt, at, class, message, traceback, worker"
    )
    tags: list[str]
    source: str = Field(description="the door: cli, http, webhook, schedule, python, sql or job")
    source_id: str | None = Field(description="who stood there: the name of a key, a delivery, a schedule")
    unique_key: str | None
    worker_id: UUID | None
    timeout: Duration | None
    cancel_requested_at: datetime | None
    crash_count: int = Field(description="workers that died over it")
    hard_timeout: Duration | None = Field(description="after this the process that runs it is killed")
    options: dict[str, Any] | None = Field(description="back-off bounds, and what a Dramatiq message carried")
    limit_key: str | None = Field(description="whose limits within the queue it counts towards")
    solo: bool = Field(description="runs alone next, because a worker died while it ran")
    put_off: int = Field(description="how often a worker put it off that does not know it, or its arguments")
    put_off_reason: str | None


class LimitsObject(Shown):
    """What a queue, and within it each limit key, may do at once and within a time. null: no limit."""

    concurrency: int | None = Field(description="jobs that run at once, over all workers")
    rate: RateText | None = Field(description="jobs that start within any such time")
    key_concurrency: int | None = Field(description="the same as concurrency, of each limit key")
    key_rate: RateText | None = Field(description="the same as rate, of each limit key")


class QueueObject(Shown):
    """A queue, its unfinished jobs by state, and its limits."""

    name: str
    paused_at: datetime | None
    scheduled: int
    queued: int
    running: int
    retrying: int
    oldest_at: datetime | None = Field(description="when the job that has waited longest became due")
    limits: LimitsObject
    granted: int = Field(description="jobs of a limited queue that may start and have not")
    started: int = Field(description="jobs that started within the time of its rate; 0 without one")

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's own documentation has it
    @property
    def paused(self) -> bool:
        return self.paused_at is not None


class JobTypeObject(Shown):
    """A kind of job, as the workers published it."""

    name: str
    queue: str
    schema_: dict[str, Any] = Field(
        validation_alias="schema",
        serialization_alias="schema",
        description="JSON Schema of the arguments by name",
    )
    priority: int
    max_attempts: int
    timeout: Duration | None
    doc: str


class WorkerObject(Shown):
    """A worker that holds a lease."""

    id: UUID
    hostname: str
    pid: int
    queues: list[str]
    threads: int
    slots: int = Field(description="jobs it holds at most")
    started_at: datetime
    lease_expires_at: datetime
    draining_since: datetime | None
    running: int = Field(description="jobs it runs")


class Me(Shown):
    """The key that asked."""

    name: str
    role: str
    queue: str | None = Field(description="the one queue that the key is confined to")


class BulkResult(Shown):
    """What a verb by filter did, or with dry_run would do."""

    matched: int
    changed: int
    dry_run: bool
    complete: bool = Field(description="whether `matched` are all; otherwise more fit than the limit allows")


class DeliveryResult(Shown):
    """What a webhook came to. A handshake has no delivery; a duplicate has the first one's."""

    delivery_id: UUID | None
    job_ids: list[UUID]
    duplicate: bool


class Health(Shown):
    """The process is alive."""

    status: str = Field(examples=["ok"])


class ReadyState(Shown):
    """Whether all that is needed is there."""

    status: str = Field(examples=["ready", "unavailable"])
    checks: dict[str, str] = Field(examples=[{"database": "ok", "migrations": "ok", "redis": "ok"}])


class Page(BaseModel, Generic[T]):
    """A list; `next_cursor` leads to what follows, and is null at the end."""

    items: list[T]
    next_cursor: str | None = None


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(examples=["NOT_FOUND"])
    message: str
    fields: dict[str, str] | None = Field(
        default=None,
        description="by the path of each value that does not fit: why; left out when there is none",
    )
    request_id: str


class ErrorObject(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail


def page_of(model: type[T], records: Sequence[Any], next_cursor: str | None = None) -> Page[T]:
    return Page[model](  # type: ignore[valid-type]
        items=[model.model_validate(record) for record in records], next_cursor=next_cursor
    )


def reply(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer, written at once: FastAPI would check it a second time."""
    return reply_json(answer.model_dump_json(by_alias=True), status, headers)


def reply_json(content: str | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is JSON already."""
    return Response(content, status, headers=headers, media_type="application/json")
