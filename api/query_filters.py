"""Read the filters of requests strictly: for the list of jobs, and for cancel, retry and delete by filter."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self, TypeVar

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.config import JsonDict, JsonValue
from pydantic.json_schema import JsonSchemaValue
from typing_extensions import TypeAliasType

from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.durations import parse_duration
from callboard.jobs.model.basics.fields import WHOLE, Duration, Instant, SchemaOf, described
from callboard.jobs.model.paging import PAGE_LIMIT, cursor_pattern
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.control import BULK_LIMIT
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.listing import CURSOR_SIZE

#: In a query string an unescaped + means a space, so the + of a UTC offset arrives as a space.
_LOST_PLUS: Final = re.compile(r" (\d\d:?\d\d)$")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("no job has a NUL character")
    return text


def _moment(value: Any) -> Any:
    """Parse a time with a UTC offset, or a duration before now."""
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic collects ValueError only
            "a time such as 2026-11-22T09:00:00Z, or a duration such as 1h, is expected"
        )
    try:
        return SYSTEM.now() - parse_duration(value)
    except InvalidInput:
        pass
    try:
        moment = datetime.fromisoformat(_LOST_PLUS.sub(r"+\1", value.strip()))
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            "a time with a UTC offset, such as 2026-11-22T09:00:00Z, or a duration such as 1h, is expected"
        ) from None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _reject_null(value: Any) -> Any:
    if value is None:
        raise ValueError("null is not a filter: leave the field out")
    return value


#: A text to compare with. Postgres stores no NUL character.
FilterText = TypeAliasType(
    "FilterText",
    Annotated[
        str,
        Field(min_length=1, max_length=200),
        AfterValidator(_without_nul),
        described(r"[^\u0000]+", minLength=1, maxLength=200),
    ],
)
JobCursor = TypeAliasType("JobCursor", Annotated[str, described(cursor_pattern(CURSOR_SIZE))])
Moment = TypeAliasType("Moment", Annotated[datetime, BeforeValidator(_moment), SchemaOf(Instant | Duration)])
_SomeStates = Annotated[list[JobState], Field(min_length=1, max_length=20)]
States = Annotated[_SomeStates, BeforeValidator(_as_list)]
#: In a body, one state needs no list around it.
StatesOfBody = Annotated[States, SchemaOf(JobState | _SomeStates)]


class _WithoutNull:
    """The JSON Schema of a field that is null only when it is left out."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        value: JsonSchemaValue = handler(schema)["anyOf"][0]
        return value


T = TypeVar("T")
#: A field that may be left out, but may not be null.
Optionally = Annotated[T | None, BeforeValidator(_reject_null), _WithoutNull()]


class FilterBody(BaseModel):
    """Jobs that match every given field. `since` and `until` compare the time of the enqueue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: StatesOfBody = Field(default_factory=list, description="any of these states")
    queue: Optionally[FilterText] = None
    name: Optionally[FilterText] = None
    tag: Optionally[FilterText] = None
    since: Optionally[Moment] = Field(
        default=None, description="enqueued at this time or later, or not longer ago"
    )
    until: Optionally[Moment] = Field(default=None, description="enqueued before this time, or longer ago")
    search: Optionally[FilterText] = Field(
        default=None,
        description="a text in arguments, results, errors, log lines, notes, keys or tags; case is ignored",
    )

    def jobs(self) -> JobFilter:
        """Return the filter that the platform takes."""
        return JobFilter(
            states=tuple(dict.fromkeys(self.state)),
            queue=self.queue,
            name=self.name,
            tag=self.tag,
            since=self.since,
            until=self.until,
            search=self.search,
        )


class ListQuery(FilterBody):
    """The filter and the page of a list."""

    state: States = Field(default_factory=list, description="any of these states")
    cursor: Optionally[JobCursor] = Field(default=None, description="next_cursor of the previous page")
    limit: int = Field(default=50, ge=1, le=PAGE_LIMIT)


_FILTERS: Final = tuple(FilterBody.model_fields)
_ANY_FILTER: Final[list[JsonValue]] = [{"required": [name], "properties": {name: {}}} for name in _FILTERS]
#: The rules of `BulkBody._check_filter` as JSON Schema.
_FILTER_RULES: Final[JsonDict] = {
    "examples": [{"filter": {"state": "failed", "queue": "mail", "since": "1d"}, "dry_run": True}],
    "not": {"required": ["filter"], "properties": {"filter": {}}, "anyOf": _ANY_FILTER},
    "if": {"required": ["dry_run"], "properties": {"dry_run": {"const": True}}},
    "else": {
        "anyOf": [{"required": ["filter"], "properties": {"filter": {"minProperties": 1}}}, *_ANY_FILTER]
    },
}


class BulkBody(FilterBody):
    """The jobs to change: a filter, or the fields of a filter without `filter` around them."""

    model_config = ConfigDict(json_schema_extra=_FILTER_RULES)

    filter: Optionally[FilterBody] = Field(default=None, description="empty only with dry_run")
    dry_run: bool = Field(default=False, strict=True, description="only count the jobs")
    limit: Annotated[int, Field(ge=1, le=BULK_LIMIT, strict=True), WHOLE] = Field(
        default=BULK_LIMIT, description="change at most this many, oldest first"
    )

    @model_validator(mode="after")
    def _check_filter(self) -> Self:
        direct = self.model_fields_set.intersection(_FILTERS)
        if self.filter is not None and direct:
            raise ValueError(f"give filter or {', '.join(sorted(direct))}, not both")
        if not (self.dry_run or direct or (self.filter and self.filter.model_fields_set)):
            raise ValueError("the filter is empty and would match every job; name a state, a queue or a time")
        return self

    def jobs(self) -> JobFilter:
        """Return the filter that the platform takes."""
        return super().jobs() if self.filter is None else self.filter.jobs()


class CancelBody(BaseModel):
    """Options of a cancel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    force: bool = Field(
        default=False, strict=True, description="kill the process of a running job that does not stop"
    )


class BulkCancelBody(BulkBody, CancelBody):
    """The jobs to cancel, and the options of the cancel."""


def restrict_to_key(job_filter: JobFilter, key: ApiKey) -> JobFilter | None:
    """Return the filter restricted to the jobs that a key may see, or None if it names others only."""
    if job_filter.queue not in (None, key.queue or job_filter.queue):
        return None
    if job_filter.name not in (None, key.job or job_filter.name):
        return None
    return replace(job_filter, queue=key.queue or job_filter.queue, name=key.job or job_filter.name)


async def reject_repeated_parameters(request: Request) -> None:
    """Raise InvalidInput if the query repeats a parameter other than `state`."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    repeated = {
        name: "given more than once" for name, count in counts.items() if count > 1 and name != "state"
    }
    if repeated:
        raise InvalidInput(f"{next(iter(repeated))} is given more than once", fields=repeated)
