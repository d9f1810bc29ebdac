"""What a caller may ask of an enqueue: one model for every door, so that every door refuses the same."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from jobs.durations import LONGEST, parse_duration
from jobs.errors import InvalidInput
from jobs.uniqueness import OnConflict

_QUEUE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,99}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._:-]{0,199}")
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC)


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except InvalidInput as error:
            raise ValueError(error.message) from None
    if isinstance(value, timedelta):
        return value
    raise ValueError("a duration such as 30s, 10m or 1h is expected")


def _positive(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= LONGEST:
        raise ValueError("a duration between 0s and ten years is expected")
    return value


def _written(value: Any) -> Any:
    """A time is written out: a bare number might be seconds, milliseconds or a mistake."""
    if isinstance(value, datetime) or (isinstance(value, str) and "-" in value[1:]):
        return value
    raise ValueError("a time such as 2026-11-22T09:00:00Z is expected")


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time with its offset is expected, such as 2026-11-22T09:00:00Z")
    try:
        at = value.astimezone(UTC)
    except OverflowError:
        at = None
    if at is None or not _EARLIEST <= at <= _LATEST:
        raise ValueError("a time between 1970 and 3000 is expected")
    return at


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("only printable characters are expected")
    return value


def _matching(pattern: re.Pattern[str], form: str) -> Any:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(form)
        return value

    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
Instant = Annotated[datetime, BeforeValidator(_written), AfterValidator(_aware)]
QueueName = Annotated[
    str,
    _matching(
        _QUEUE, "a queue name is up to 100 letters, digits, '.', '_' or '-', and begins with a letter or '_'"
    ),
]
JobName = Annotated[
    str,
    _matching(
        _NAME,
        "a job name is up to 200 letters, digits, '.', '_', ':' or '-', and begins with a letter or '_'",
    ),
]
#: The name of a schedule or of a webhook source.
Handle = Annotated[
    str,
    _matching(
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"),
        "a name is up to 100 letters, digits, '.', '_' or '-', and begins with a letter, a digit or '_'",
    ),
]
Label = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Tag = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]


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


def invalid_input(error: ValidationError, *, prefix: str = "") -> InvalidInput:
    """A pydantic error as ours: one line that names the first field, and all of them in `fields`."""
    fields: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        path = prefix + _path(problem["loc"])
        fields.setdefault(path or "request", problem["msg"].removeprefix("Value error, "))
    first = next(iter(fields))
    return InvalidInput(f"{first}: {fields[first]}", fields=fields)


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
