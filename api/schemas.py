"""The objects in responses, as pydantic models. The OpenAPI document describes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, computed_field
from typing_extensions import TypeAliasType

from callboard.api.http.error_responses import STATUS
from callboard.jobs.access.api_keys import Role
from callboard.jobs.model.basics.durations import exact_duration
from callboard.jobs.model.basics.fields import Arguments, Duration, SchemaOf, described
from callboard.jobs.model.job import SOURCES
from callboard.jobs.model.queue_limits import RATE_PATTERN, Rate
from callboard.jobs.model.states import JobState

T = TypeVar("T", bound=BaseModel)


def _as_text(value: Any) -> Any:
    if isinstance(value, float):
        value = timedelta(seconds=value)
    return exact_duration(value) if isinstance(value, timedelta) else value


def _rate_text(value: Any) -> Any:
    return str(value) if isinstance(value, Rate) else value


def one_of(*values: str) -> WithJsonSchema:
    """Return the JSON Schema of a text that is one of these."""
    return WithJsonSchema({"type": "string", "enum": list(values)})


DurationText = Annotated[str, BeforeValidator(_as_text), SchemaOf(Duration)]
RateText = TypeAliasType("RateText", Annotated[str, described(RATE_PATTERN, examples=["100/1m"])])
ShownRate = Annotated[str, BeforeValidator(_rate_text), SchemaOf(RateText)]
# The types below are named, so that generated clients name them well.
SourceName = TypeAliasType("SourceName", Annotated[str, one_of(*SOURCES)])
RoleName = TypeAliasType("RoleName", Annotated[str, one_of(*(role.name.lower() for role in Role))])
ErrorCode = TypeAliasType("ErrorCode", Annotated[str, one_of(*STATUS)])
JobOptions = TypeAliasType("JobOptions", dict[str, Any])
ArgumentsSchema = TypeAliasType("ArgumentsSchema", dict[str, Any])
FieldErrors = TypeAliasType("FieldErrors", dict[str, str])


class Shown(BaseModel):
    """Base of models that copy the fields of a domain record by name. Times are ISO 8601 in UTC, with a Z."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class AttemptErrorObject(Shown):
    """How an attempt failed."""

    attempt: int
    at: datetime
    class_: str = Field(alias="class", description="the name of the error")
    message: str
    traceback: str
    worker: str | None = Field(description="host and process id of the worker")


class JobObject(Shown):  # type: ignore[no-redef]  # the mypy plugin adds an __init__ with **kwargs
    """A job. The last four states are terminal."""

    # This model only describes a job; api/job_json.py writes it.

    id: UUID
    name: str
    queue: str
    state: JobState
    priority: int = Field(ge=0, le=9, description="0 (first) to 9 (last)")
    args: list[Any]
    kwargs: Arguments
    attempt: int = Field(ge=0, description="number of started attempts that count towards max_attempts")
    max_attempts: int = Field(ge=1, le=1000)
    run_at: datetime = Field(description="the job starts at this time or later")
    enqueued_at: datetime
    started_at: datetime | None = Field(description="when the last attempt started")
    finished_at: datetime | None = Field(description="set only in terminal states")
    progress: Annotated[float, Field(ge=0, le=1)] | None = Field(description="0 to 1, as the job reports it")
    progress_note: str | None
    result: Any
    errors: list[AttemptErrorObject] = Field(description="one entry per failed attempt, oldest first")
    tags: list[str]
    source: SourceName = Field(description="where it was enqueued")
    source_id: str | None = Field(description="which one: the name of a key, a delivery, a schedule")
    unique_key: str | None
    worker_id: UUID | None
    timeout: DurationText | None
    cancel_requested_at: datetime | None
    crash_count: int = Field(description="how many worker deaths the job is blamed for")
    hard_timeout: DurationText | None = Field(
        description="the process of an attempt is killed after this time"
    )
    options: JobOptions | None = Field(
        description="limits of the retry delay, and options of the Dramatiq message"
    )
    limit_key: str | None = Field(description="it counts towards the queue's limits for this key")
    solo: bool = Field(description="its next attempt runs alone, because a worker died while it ran")
    put_off: int = Field(description="how often a worker that cannot run the job put it back into its queue")
    put_off_reason: str | None
    request_id: str | None = Field(description="the X-Request-ID of its enqueue, or that of its parent job")


class LimitsObject(Shown):
    """The limits of a queue, and of each limit key in it. null means no limit."""

    concurrency: int | None = Field(description="jobs that run at the same time on all workers")
    rate: ShownRate | None = Field(description="jobs that start in any period of this length")
    key_concurrency: int | None = Field(description="as concurrency, for each limit key")
    key_rate: ShownRate | None = Field(description="as rate, for each limit key")


class QueueObject(Shown):
    """A queue, its unfinished jobs by state, and its limits."""

    name: str
    paused_at: datetime | None
    scheduled: int
    queued: int
    running: int = Field(description="jobs that have begun; may be some seconds old")
    claimed: int = Field(description="jobs of state running that a worker claimed ahead and has not begun")
    retrying: int
    oldest_at: datetime | None = Field(description="when the job with the longest wait became due")
    limits: LimitsObject
    granted: int = Field(description="jobs of a limited queue that may start but have not started")
    started: int = Field(description="jobs that started in the last period of the rate limit; 0 without one")

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documentation recommends this
    @property
    def paused(self) -> bool:
        """Return whether the queue is paused."""
        return self.paused_at is not None


class JobTypeObject(Shown):
    """A job type, as workers published it."""

    name: str
    queue: str
    schema_: ArgumentsSchema = Field(
        validation_alias="schema",
        serialization_alias="schema",
        description="JSON Schema of the arguments by name",
    )
    priority: int
    max_attempts: int
    timeout: DurationText | None
    doc: str


class JobVersionObject(JobTypeObject):
    """A version of a job type."""

    digest: str = Field(description="names the version; the same for the same queue, schema and defaults")
    module: str | None = Field(description="the module that defines the job")
    hard_timeout: DurationText | None
    published_at: datetime = Field(description="when it became the newest version")
    seen_at: datetime = Field(description="when it was last published, or when its last worker ended")
    workers: int = Field(description="how many live workers run it")
    is_live: bool = Field(
        description="a worker runs it or ran it until a minute ago, or it was announced in the last day"
    )
    is_current: bool = Field(
        description="arguments are checked against it; the first that accepts them counts"
    )


class JobTypeVersions(JobTypeObject):
    """A job type: its newest version that counts, and all versions, the newest first."""

    versions: list[JobVersionObject]


class WorkerObject(Shown):
    """A worker that holds a lease."""

    id: UUID
    hostname: str
    pid: int
    queues: list[str]
    threads: int
    slots: int = Field(description="how many jobs it can hold")
    started_at: datetime
    lease_expires_at: datetime
    draining_since: datetime | None
    running: int = Field(description="how many jobs it runs; may be some seconds old")
    claimed: int = Field(description="how many jobs it has claimed ahead and not begun")


class Me(Shown):
    """The key that sent the request."""

    name: str
    role: RoleName
    queue: str | None = Field(description="the only queue that the key may use; null: all queues")
    job: str | None = Field(description="the only job that the key may use; null: all jobs")


class BulkResult(Shown):
    """What a change by filter did, or with dry_run would do."""

    matched: int
    changed: int
    dry_run: bool
    complete: bool = Field(
        description="whether `matched` counts all; if false, more jobs match than the limit allows"
    )


class DeliveryResult(Shown):
    """The result of a webhook. A handshake has no delivery; a duplicate has the first one's id and jobs."""

    delivery_id: UUID | None
    job_ids: list[UUID]
    duplicate: bool


class DeliveryObject(Shown):
    """A delivery that a webhook source sent."""

    id: UUID
    source: str
    external_id: str = Field(description="the sender's id of the delivery")
    event: str
    received_at: datetime
    body_sha256: str = Field(description="SHA-256 of the first body, in hex")
    job_id: UUID | None = Field(
        description="the job that it became; null when the source ignores the event. It may be deleted"
    )
    mismatch_count: int = Field(description="how often the id was used again with another body")
    mismatched_at: datetime | None = Field(description="when that happened last")
    kept_bytes: int | None = Field(
        description="the size of the raw body, if it is kept: GET .../body returns it. Null when the job's"
        " payload has all of it"
    )


class Health(Shown):
    """The process is alive."""

    status: str = Field(examples=["ok"])


class ReadyState(Shown):
    """Whether the API can accept jobs, and the result of each check.

    degraded: the checks that fail and are not needed to accept jobs.
    """

    status: str = Field(examples=["ready", "degraded", "unavailable", "stopping"])
    checks: dict[str, str] = Field(examples=[{"database": "ok", "migrations": "ok", "redis": "ok"}])
    degraded: list[str] = Field(examples=[["redis"]])


class Page(BaseModel, Generic[T]):
    """A page of a list. `next_cursor` selects the next page; it is null on the last page."""

    items: list[T]
    next_cursor: str | None


class ErrorDetail(BaseModel):
    """An error."""

    code: ErrorCode
    message: str = Field(description="one line for people; it may change")
    fields: FieldErrors = Field(
        default_factory=dict,
        description="the reason for each invalid value, by its path; missing if there is none",
    )
    request_id: str


class ErrorObject(BaseModel):
    """The form of every error."""

    error: ErrorDetail


def page_of(model: type[T], records: Sequence[Any], next_cursor: str | None = None) -> Page[T]:
    """Return a page of records, each converted to the model."""
    return Page[model](  # type: ignore[valid-type]
        items=[model.model_validate(record) for record in records], next_cursor=next_cursor
    )


def reply(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with the model as JSON. FastAPI would validate a returned model a second time."""
    return reply_json(answer.model_dump_json(by_alias=True), status, headers)


def reply_json(content: str | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose content is already JSON."""
    return Response(content, status, headers=headers, media_type="application/json")
