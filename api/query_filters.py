"""Read the filters of requests strictly: for the list of jobs, and for cancel, retry and delete by filter."""

import re
from collections import Counter
from dataclasses import replace
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

from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.durations import parse_duration
from callboard.jobs.model.paging import PAGE_LIMIT
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.control import BULK_LIMIT
from callboard.jobs.operate.job_filter import JobFilter

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


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_nul)]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "type": "string",
            "description": "a time with a UTC offset, or a duration before now",
            "examples": ["2026-11-22T09:00:00Z", "1h"],
        }
    ),
]
States = Annotated[list[JobState], BeforeValidator(_as_list), Field(max_length=20)]


class FilterBody(BaseModel):
    """Jobs that match every given field. `since` and `until` compare the time of the enqueue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: States = Field(default_factory=list, description="any of these states")
    queue: Text | None = None
    name: Text | None = None
    tag: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    search: Text | None = Field(
        default=None, description="a text in arguments, notes or errors; case is ignored"
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

    cursor: Text | None = Field(default=None, description="next_cursor of the previous page")
    limit: int = Field(default=50, ge=1, le=PAGE_LIMIT)


class BulkBody(BaseModel):
    """The jobs to change. The filter's fields may also be given directly, without `filter` around them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: FilterBody
    dry_run: bool = Field(default=False, strict=True, description="only count the jobs")
    limit: int = Field(
        default=BULK_LIMIT,
        ge=1,
        le=BULK_LIMIT,
        strict=True,
        description="change at most this many, oldest first",
    )

    @model_validator(mode="before")
    @classmethod
    def _wrap_filter(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "filter" in value:
            return value
        filter_fields = {key: item for key, item in value.items() if key in FilterBody.model_fields}
        rest = {key: item for key, item in value.items() if key not in filter_fields}
        return {"filter": filter_fields, **rest}

    @model_validator(mode="after")
    def _reject_empty_filter(self) -> Self:
        if not self.dry_run and not self.filter.model_fields_set:
            raise ValueError("the filter is empty and would match every job; name a state, a queue or a time")
        return self


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
