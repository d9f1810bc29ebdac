"""What a job logged."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded
from callboard.api.query_filters import Text, each_once
from callboard.api.schemas import Page, Shown, page_of, reply
from callboard.jobs.model.ids import parse_id
from callboard.jobs.operate.job_filter import PAGE_LIMIT

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class LogLineObject(Shown):
    """A line that an attempt logged. An attempt keeps its newest 1,000 lines."""

    attempt: int
    epoch: int = Field(
        description="tells attempts of the same number apart: one that was given back has it again"
    )
    line: int = Field(description="from 1 within the attempt")
    logged_at: datetime
    level: str = Field(examples=["info", "warning", "error"])
    logger: str
    message: str


class LogQuery(BaseModel):
    """Which lines, and the page of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempt: int | None = Field(default=None, ge=1, le=2**31 - 1, description="of this attempt only")
    cursor: Text | None = Field(default=None, description="next_cursor of the page before")
    limit: int = Field(default=50, ge=1, le=PAGE_LIMIT)


@router.get(
    "/{id}/logs",
    response_model=Page[LogLineObject],
    responses=guarded("VALIDATION_ERROR", "NOT_FOUND"),
    dependencies=[Depends(each_once)],
)
def list_job_logs(id: str, caller: Viewer, query: Annotated[LogQuery, Query()]) -> Response:  # noqa: A002 - the name in the path
    """The lines that the job logged, oldest first."""
    job_id = parse_id(id)
    if caller.key.queue is not None:
        caller.check_sees(caller.platform.jobs.get(job_id))
    page = caller.platform.job_logs.page(
        job_id, attempt=query.attempt, cursor=query.cursor, limit=query.limit
    )
    return reply(page_of(LogLineObject, page.items, page.next_cursor))
