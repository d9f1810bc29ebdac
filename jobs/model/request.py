"""What a caller may ask of an enqueue: one model for every door, so that every door refuses the same."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from callboard.jobs.model.fields import Duration, Instant, JobName, Label, QueueName, Tag, invalid_input
from callboard.jobs.model.unique import OnConflict


class JobRequest(BaseModel):
    """An enqueue: which job, with what, when. What is not given comes from the job's own definition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: JobName
    args: list[Any] = Field(default_factory=list, max_length=1000)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    queue: QueueName | None = None
    run_at: Instant | None = None
    delay: Duration | None = None
    expires_at: Instant | None = None
    priority: Annotated[int, Field(ge=0, le=9, strict=True)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = None
    timeout: Duration | None = None
    hard_timeout: Duration | None = Field(
        default=None,
        description="after this the process that runs the attempt is killed; by default 30 s after the timeout",
    )
    min_backoff: Duration | None = Field(
        default=None, description="the delay before a retry is at least this, whatever the job's policy says"
    )
    max_backoff: Duration | None = Field(default=None, description="and at most this")
    unique_key: Label | None = Field(default=None, description="at most one unfinished job has it")
    unique_for: Duration | None = Field(
        default=None,
        description="how long the unique_key is held whatever becomes of the job, counted from the enqueue;"
        " 0s: as long as the job is unfinished",
    )
    on_conflict: OnConflict | None = Field(
        default=None,
        description="when the unique_key is held: existing (the default) answers with the job that holds it, replace"
        " gives that job these arguments and this time if it has not begun, reject refuses",
    )
    limit_key: Label | None = Field(
        default=None, description="whose limits within the queue the job counts towards, such as a tenant's"
    )
    #: What a Dramatiq message carries beyond what the platform knows.
    message_options: dict[str, Any] | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    #: Accept a job that no worker has published yet, and arguments unseen.
    unchecked: bool = False

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.run_at is not None and self.delay is not None:
            raise ValueError("run_at and delay exclude each other")
        if self.timeout is not None and self.timeout < timedelta(milliseconds=1):
            raise ValueError("timeout must be longer than 0s")
        if self.hard_timeout is not None and self.hard_timeout < max(
            self.timeout or timedelta(0), timedelta(milliseconds=1)
        ):
            raise ValueError("hard_timeout must be longer than 0s, and not shorter than timeout")
        if (
            self.min_backoff is not None
            and self.max_backoff is not None
            and self.min_backoff > self.max_backoff
        ):
            raise ValueError("min_backoff must not be longer than max_backoff")
        return self


def job_request(values: Mapping[str, Any]) -> JobRequest:
    """Read an enqueue from loose values; raises InvalidInput that names each field."""
    try:
        return JobRequest.model_validate(dict(values))
    except ValidationError as error:
        raise invalid_input(error) from None
