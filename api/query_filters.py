"""Which jobs a caller means: the filter of the list and of the verbs by filter, read strictly."""

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.clock import SYSTEM
from callboard.jobs.model.durations import parse_duration
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.control import BULK_LIMIT
from callboard.jobs.operate.job_filter import PAGE_LIMIT, JobFilter

#: A query string turns the + of an offset into a space.
_LOST_PLUS: Final = re.compile(r" (\d\d:?\d\d)$")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL character is in no job")
    return text


def _moment(value: Any) -> Any:
    """A time with its offset, or a duration before now."""
    if not isinstance(value, str):
        raise ValueError("a time such as 2026-11-22T09:00:00Z, or a duration such as 1h, is expected")  # noqa: TRY004
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
            "a time with its offset, such as 2026-11-22T09:00:00Z, or a duration such as 1h, is expected"
        ) from None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_nul)]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "type": "string",
            "description": "a time with its offset, or a duration that reaches back from now",
            "examples": ["2026-11-22T09:00:00Z", "1h"],
        }
    ),
]
States = Annotated[list[JobState], BeforeValidator(_as_list), Field(max_length=20)]


class FilterBody(BaseModel):
    """Jobs that fit every field that is given. since and until judge the time of the enqueue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: States = Field(default_factory=list, description="any of these")
    queue: Text | None = None
    name: Text | None = None
    tag: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    search: Text | None = Field(default=None, description="a text in arguments, notes or errors, in any case")

    def jobs(self) -> JobFilter:
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
    """The filter of a list, and the page of it."""

    cursor: Text | None = Field(default=None, description="next_cursor of the page before")
    limit: int = Field(default=50, ge=1, le=PAGE_LIMIT)


class BulkBody(BaseModel):
    """The jobs that a verb is for. The filter's fields may also stand beside dry_run, without `filter` around them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: FilterBody
    dry_run: bool = Field(default=False, strict=True, description="only count")
    limit: int = Field(default=BULK_LIMIT, ge=1, le=BULK_LIMIT, strict=True, description="the oldest so many")

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "filter" in value:
            return value
        beside = {key: item for key, item in value.items() if key in FilterBody.model_fields}
        rest = {key: item for key, item in value.items() if key not in beside}
        return {"filter": beside, **rest}

    @model_validator(mode="after")
    def _means_some(self) -> Self:
        if not self.dry_run and not self.filter.model_fields_set:
            raise ValueError(
                "the filter is empty and means every job there is; name a state, a queue or a time"
            )
        return self


class CancelBody(BaseModel):
    """How to cancel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    force: bool = Field(
        default=False, strict=True, description="kill the process of a running job that does not stop"
    )


class BulkCancelBody(BulkBody, CancelBody):
    """The jobs to cancel, and how."""


def confined(which: JobFilter, queue: str | None) -> JobFilter | None:
    """The filter within a key's one queue; None when it asks for another, where the key sees nothing."""
    if queue is None or which.queue == queue:
        return which
    if which.queue is not None:
        return None
    return JobFilter(which.states, queue, which.name, which.tag, which.since, which.until, which.search)


async def each_once(request: Request) -> None:
    """Refuse a query that names a parameter twice, but for `state`."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    twice = {name: "given more than once" for name, count in given.items() if count > 1 and name != "state"}
    if twice:
        raise InvalidInput(f"{next(iter(twice))} is given more than once", fields=twice)
