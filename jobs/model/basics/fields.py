"""Field types that requests share, and how pydantic's errors become ours.

Python, the CLI, HTTP and schedules use the same types, so all of them refuse the same values.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import union_schema
from typing_extensions import TypeAliasType

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import DURATION_PATTERN, LONGEST, parse_duration

_QUEUE: Final = r"[A-Za-z_][A-Za-z0-9._-]{0,99}"
_NAME: Final = r"[A-Za-z_][A-Za-z0-9._:-]{0,199}"
_HANDLE: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
#: No control characters, no invisible ones, no spaces but the plain one, and no code points that are not
#: characters. The ranges are those of the Basic Multilingual Plane, so that every dialect of regular
#: expressions reads them alike.
_ONE_LINE: Final = (
    r"[^\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    r"\u3000\ufeff\ufff0-\uffff]+"
)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC)
#: A UTC offset is less than a day, so a time whose local year is in the range is at most this far outside it.
_OFFSET: Final = timedelta(days=1)


def described(pattern: str, **more: Any) -> WithJsonSchema:
    """Return the JSON Schema of a text: `pattern` matches the whole of it."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$", **more})


class SchemaOf:
    """Describes an annotated value by the JSON Schema of another type."""

    def __init__(self, other: Any) -> None:
        self._other = other

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # The handler applies the other type's own JSON Schema only to a part of the schema that it gets.
        return handler(union_schema([TypeAdapter(self._other).core_schema]))


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
    if at is None or not _EARLIEST - _OFFSET < at < _LATEST + _OFFSET:
        raise ValueError("a time between 1970 and 3000 is expected")
    return at


def _matches(pattern: str, rule: str) -> Any:
    """Return a validator that refuses a text that `pattern` does not match. `rule` is the error message."""
    whole = re.compile(pattern)

    def check(value: str) -> str:
        if not whole.fullmatch(value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _whole(value: Any) -> Any:
    """Read 5.0 as 5: JSON does not tell one from the other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _one_line(value: str) -> str:
    if not _IS_ONE_LINE(value) or (not value.isascii() and _SURROGATE.search(value)):
        raise ValueError("only printable characters are expected")
    return value


_IS_ONE_LINE: Final = re.compile(_ONE_LINE).fullmatch
#: Python's texts may hold lone surrogates; those of other languages and JSON do not.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

#: The last annotation of a strict integer: it may be written as 5.0.
WHOLE: Final = BeforeValidator(_whole)

# The types below are named, so that a JSON Schema has each of them once, under its name.
Duration = TypeAliasType(
    "Duration",
    Annotated[
        timedelta,
        BeforeValidator(_duration),
        AfterValidator(_in_range),
        described(
            DURATION_PATTERN,
            description="a duration: the largest unit first; 1w is 7d, and ten years are the most",
            examples=["30s", "10m", "1h30m", "2d"],
        ),
    ],
)
Instant = TypeAliasType(
    "Instant",
    Annotated[
        datetime,
        BeforeValidator(_not_a_number),
        AfterValidator(_in_utc),
        WithJsonSchema(
            {
                "type": "string",
                "format": "date-time",
                "pattern": "^(?:19[7-9][0-9]|2[0-9]{3})-",
                "description": "a time with a UTC offset, in the years 1970 to 2999",
                "examples": ["2026-11-22T09:00:00Z"],
            }
        ),
    ],
)
QueueName = TypeAliasType(
    "QueueName",
    Annotated[
        str,
        _matches(
            _QUEUE,
            "a queue name is up to 100 letters, digits, '.', '_' or '-', and starts with a letter or '_'",
        ),
        described(_QUEUE, examples=["mail"]),
    ],
)
JobName = TypeAliasType(
    "JobName",
    Annotated[
        str,
        _matches(
            _NAME,
            "a job name is up to 200 letters, digits, '.', '_', ':' or '-', and starts with a letter or '_'",
        ),
        described(_NAME, examples=["send_receipt"]),
    ],
)
#: The name of a schedule or of a webhook source.
Handle = TypeAliasType(
    "Handle",
    Annotated[
        str,
        _matches(
            _HANDLE,
            "a name is up to 100 letters, digits, '.', '_' or '-', and starts with a letter, a digit or '_'",
        ),
        described(_HANDLE, examples=["github"]),
    ],
)
#: Arguments by name.
Arguments = TypeAliasType("Arguments", dict[str, Any])
Label = TypeAliasType(
    "Label",
    Annotated[
        str,
        Field(min_length=1, max_length=200),
        AfterValidator(_one_line),
        described(_ONE_LINE, minLength=1, maxLength=200),
    ],
)
Tag = TypeAliasType(
    "Tag",
    Annotated[
        str,
        Field(min_length=1, max_length=100),
        AfterValidator(_one_line),
        described(_ONE_LINE, minLength=1, maxLength=100),
    ],
)


def is_job_name(text: str) -> bool:
    return re.fullmatch(_NAME, text) is not None


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
