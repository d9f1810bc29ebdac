"""The route that lists a job's log lines."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from callboard.api.callers import Viewer
from callboard.api.job_route import JobRoute
from callboard.api.openapi import guarded_responses
from callboard.api.path_parameters import UuidText
from callboard.api.query_filters import Optionally, reject_repeated_parameters
from callboard.api.schemas import Page, Shown, page_of, reply
from callboard.jobs.attempts.job_logs import CURSOR_SIZE
from callboard.jobs.model.basics.fields import described
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.paging import PAGE_LIMIT, cursor_pattern

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JobRoute)


class LogLineObject(Shown):
    """A line that an attempt logged. The newest 1,000 lines of each attempt are kept."""

    attempt: int
    epoch: int = Field(
        description="differs between starts of one attempt: it starts again if its worker died or stopped"
    )
    line: int = Field(description="the line's number within the attempt, from 1")
    logged_at: datetime
    level: str = Field(examples=["info", "warning", "error"])
    logger: str
    message: str


LogCursor = TypeAliasType("LogCursor", Annotated[str, described(cursor_pattern(CURSOR_SIZE))])


class LogQuery(BaseModel):
    """The attempt and the page of a list of log lines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempt: Optionally[Annotated[int, Field(ge=1, le=2**31 - 1)]] = Field(
        default=None, description="only lines of this attempt"
    )
    cursor: Optionally[LogCursor] = Field(default=None, description="next_cursor of the previous page")
    limit: int = Field(default=50, ge=1, le=PAGE_LIMIT)


@router.get(
    "/{id}/logs",
    response_model=Page[LogLineObject],
    responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND"),
    dependencies=[Depends(reject_repeated_parameters)],
)
def list_job_logs(
    id: UuidText,  # noqa: A002 - the name in the path
    caller: Viewer,
    query: Annotated[LogQuery, Query()],
) -> Response:
    """List the lines that the job logged, oldest first."""
    job_id = parse_id(id)
    if caller.key.confined:
        caller.check_sees(caller.platform.jobs.get(job_id))
    page = caller.platform.job_logs.page(
        job_id, attempt=query.attempt, cursor=query.cursor, limit=query.limit
    )
    return reply(page_of(LogLineObject, page.items, page.next_cursor))
