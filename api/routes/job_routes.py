"""Routes that read jobs: list them, show one, wait for its end."""

import asyncio
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from callboard.api.callers import Viewer
from callboard.api.http.long_poll import client_disconnected
from callboard.api.job_json import job_json, jobs_json
from callboard.api.job_route import JobRoute
from callboard.api.openapi import guarded_responses
from callboard.api.path_parameters import UuidText
from callboard.api.query_filters import ListQuery, Optionally, reject_repeated_parameters, restrict_to_key
from callboard.api.schemas import JobObject, Page, reply_json
from callboard.api.services import Services
from callboard.jobs.model.basics.fields import Duration, described
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.job import Job

LONGEST_WAIT: Final = timedelta(seconds=60)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JobRoute)


#: Every text that this matches is 60 seconds at most.
_WAIT: Final = described(
    r"1m|60s|[0-5]?[0-9](?:\.[0-9]{1,6})?s|[0-5]?[0-9]{1,4}ms", examples=["30s", "500ms"]
)


def _short(value: timedelta) -> timedelta:
    if value > LONGEST_WAIT:
        raise ValueError("at most 60s; ask again to wait longer")
    return value


class WaitQuery(BaseModel):
    """How long the request waits for the job's end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: Optionally[Annotated[Duration, AfterValidator(_short), _WAIT]] = Field(
        default=None, description="answer when the job has ended, or after this time; 60s at most"
    )


@router.get(
    "",
    response_model=Page[JobObject],
    responses=guarded_responses("VALIDATION_ERROR"),
    dependencies=[Depends(reject_repeated_parameters)],
)
def list_jobs(caller: Viewer, query: Annotated[ListQuery, Query()]) -> Response:
    """List the jobs that match, newest first."""
    which = restrict_to_key(query.jobs(), caller.key)
    if which is None:
        return reply_json(jobs_json([]))
    page = caller.platform.jobs.page(which, cursor=query.cursor, limit=query.limit)
    return reply_json(jobs_json(page.items, page.next_cursor))


@router.get("/{id}", response_model=JobObject, responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND"))
async def show_job(
    id: UuidText,  # noqa: A002 - the name in the path
    caller: Viewer,
    query: Annotated[WaitQuery, Query()],
    request: Request,
) -> Response:
    """Show a job; with `wait` once it has ended, or as it is when the time is over."""
    job = await run_in_threadpool(caller.platform.jobs.get, parse_id(id))
    caller.check_sees(job)
    if query.wait and not job.finished:
        job = await _ended(caller.services, job, query.wait, request)
    return reply_json(job_json(job))


async def _ended(services: Services, job: Job, longest: timedelta, request: Request) -> Job:
    waiting = asyncio.ensure_future(services.polls.wait(job.id, longest.total_seconds()))
    hung_up = asyncio.ensure_future(client_disconnected(request))
    try:
        await asyncio.wait({waiting, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        ended = waiting.result()
        if ended is None:
            return await run_in_threadpool(services.platform.jobs.get, job.id)
        return ended
    finally:
        for task in (waiting, hung_up):
            task.cancel()
