"""Field types that requests share, and how pydantic's errors become ours.

Python, the CLI, HTTP and schedules use the same types, so all of them refuse the same values.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import LONGEST, parse_duration

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


def _in_range(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= LONGEST:
        raise ValueError("a duration between 0s and ten years is expected")
    return value


def _not_a_number(value: Any) -> Any:
    """Refuse a plain number as a time: it could be seconds, milliseconds or a mistake."""
    if isinstance(value, datetime) or (isinstance(value, str) and "-" in value[1:]):
        return value
    raise ValueError("a time such as 2026-11-22T09:00:00Z is expected")


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time with a UTC offset is expected, such as 2026-11-22T09:00:00Z")
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


def _matches(pattern: re.Pattern[str], rule: str) -> Any:
    """Return a validator that refuses a text that `pattern` does not match. `rule` is the error message."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_in_range)]
Instant = Annotated[datetime, BeforeValidator(_not_a_number), AfterValidator(_in_utc)]
QueueName = Annotated[
    str,
    _matches(
        _QUEUE, "a queue name is up to 100 letters, digits, '.', '_' or '-', and starts with a letter or '_'"
    ),
]
JobName = Annotated[
    str,
    _matches(
        _NAME,
        "a job name is up to 200 letters, digits, '.', '_', ':' or '-', and starts with a letter or '_'",
    ),
]
#: The name of a schedule or of a webhook source.
Handle = Annotated[
    str,
    _matches(
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"),
        "a name is up to 100 letters, digits, '.', '_' or '-', and starts with a letter, a digit or '_'",
    ),
]
Label = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Tag = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]


def invalid_input(error: ValidationError, *, prefix: str = "") -> InvalidInput:
    """Convert a pydantic error. The message names the first bad field; `fields` has every bad field.

    prefix: a text to put before the path of each field.
    """
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
