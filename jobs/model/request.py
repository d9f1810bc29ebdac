"""The request to enqueue a job. Python, the CLI, HTTP, schedules and webhooks use the same model.

So all of them accept the same values and refuse the same values.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict
from typing_extensions import TypeAliasType

from callboard.jobs.model.basics.fields import (
    WHOLE,
    Arguments,
    Duration,
    Instant,
    JobName,
    Label,
    QueueName,
    Tag,
    invalid_input,
)
from callboard.jobs.model.unique import OnConflict


class OptionsWithoutArgs(TypedDict, total=False):
    """The options of an enqueue, without the job's arguments.

    An option that is not given has the value from the job's definition. A duration is a timedelta or a text
    such as "30s", "10m" or "1h". A time is a timezone-aware datetime or an ISO 8601 text.
    """

    queue: str
    #: When the job is due; not together with `delay`.
    run_at: datetime | str
    delay: timedelta | str
    #: The job is cancelled at this time if it has not started.
    expires_at: datetime | str
    #: 0 (first) to 9.
    priority: int
    tags: Sequence[str]
    max_attempts: int
    #: Bounds of the delay before a retry. They override the retry policy.
    min_backoff: timedelta | str
    max_backoff: timedelta | str
    #: How long an attempt may take before it is interrupted, and before its process is killed.
    timeout: timedelta | str
    hard_timeout: timedelta | str
    #: The unique key: at most one unfinished job has it.
    unique_key: str
    #: How long the key is held from the enqueue on, even if the job ends earlier.
    unique_for: timedelta | str
    #: What happens when the key is held: "existing" (default) returns the job that holds it; "replace" gives
    #: that job these arguments and this time if it has not started; "reject" raises Conflict.
    on_conflict: OnConflict
    #: The limit key, such as a tenant's id: the job counts towards the limits of this key in its queue.
    limit_key: str
    #: True: accept a job that no worker has published, and do not check its arguments.
    unchecked: bool


class EnqueueOptions(OptionsWithoutArgs, total=False):
    """The options of an enqueue: keyword arguments of `Client.enqueue` and similar methods."""

    #: Positional arguments.
    args: Sequence[Any]


#: A duration with a digit other than 0.
_NotZero = Annotated[Duration, Field(json_schema_extra={"pattern": "[1-9]"})]
MessageOptions = TypeAliasType("MessageOptions", dict[str, Any])
#: "Not both" of run_at and delay as JSON Schema: null counts as missing. And an example.
_SCHEMA: Final[JsonDict] = {
    "examples": [
        {"name": "send_receipt", "kwargs": {"order_id": 7, "to": "ada@example.com"}, "delay": "10s"},
    ],
    "not": {
        "required": ["run_at", "delay"],
        "properties": {"run_at": {"type": "string"}, "delay": {"type": "string"}},
    },
}


class JobRequest(BaseModel):
    """A request to enqueue a job. A field that is not given has the value from the job's definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_SCHEMA)

    name: JobName
    args: list[Any] = Field(default_factory=list, max_length=1000)
    kwargs: Arguments = Field(default_factory=dict)
    queue: QueueName | None = None
    run_at: Instant | None = Field(default=None, description="when the job is due; not together with delay")
    delay: Duration | None = Field(default=None, description="how long from now the job is due")
    expires_at: Instant | None = Field(
        default=None, description="the job is cancelled at this time if it has not started"
    )
    priority: Annotated[int, Field(ge=0, le=9, strict=True), WHOLE] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1000, strict=True), WHOLE] | None = None
    timeout: _NotZero | None = Field(
        default=None, description="an attempt is interrupted after this time; not zero"
    )
    hard_timeout: _NotZero | None = Field(
        default=None,
        description="the process that runs an attempt is killed after this time; by default, 30 s after the"
        " timeout; not shorter than the timeout",
    )
    min_backoff: Duration | None = Field(
        default=None,
        description="the shortest delay before a retry; it overrides the job's retry policy",
    )
    max_backoff: Duration | None = Field(
        default=None,
        description="the longest delay before a retry, not shorter than min_backoff; it overrides the job's"
        " retry policy",
    )
    unique_key: Label | None = Field(default=None, description="at most one unfinished job has this key")
    unique_for: Duration | None = Field(
        default=None,
        description="how long the unique_key is held at least, counted from the enqueue, even when the job"
        " ends earlier; 0s: only while the job is unfinished",
    )
    on_conflict: OnConflict | None = Field(
        default=None,
        description="when the unique_key is held: existing (the default) returns the holder; replace gives it"
        " these arguments and this time if it has not started; reject refuses the request",
    )
    limit_key: Label | None = Field(
        default=None,
        description="the queue's limits for each key count this job under this key, such as a tenant",
    )
    message_options: MessageOptions | None = Field(
        default=None, description="the options of a Dramatiq message that have no field here"
    )
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    unchecked: bool = Field(
        default=False,
        strict=True,
        description="accept a job that no worker has published, and do not check its arguments",
    )

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.run_at is not None and self.delay is not None:
            raise ValueError("give run_at or delay, not both")
        if self.timeout is not None and not self.timeout:
            raise ValueError("timeout must be longer than 0s")
        if self.hard_timeout is not None and (
            not self.hard_timeout or self.hard_timeout < (self.timeout or self.hard_timeout)
        ):
            raise ValueError("hard_timeout must be longer than 0s and at least as long as timeout")
        if (
            self.min_backoff is not None
            and self.max_backoff is not None
            and self.min_backoff > self.max_backoff
        ):
            raise ValueError("min_backoff must not be longer than max_backoff")
        return self


def job_request(values: Mapping[str, Any]) -> JobRequest:
    """Make a JobRequest from a caller's values. Raises InvalidInput, whose `fields` names each bad field."""
    try:
        return JobRequest.model_validate(dict(values))
    except ValidationError as error:
        raise invalid_input(error) from None
