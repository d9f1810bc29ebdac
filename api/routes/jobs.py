"""Jobs: create one or many, list, look at one and wait for its end."""

import asyncio
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from api.auth import Caller, Operator, Viewer
from api.bodies import body, takes
from api.door import Door
from api.filters import ListQuery, confined, each_once
from api.long_poll import gone
from api.openapi import guarded
from api.schemas import JobObject, Page, page_of, reply
from jobs.errors import Conflict, Unavailable
from jobs.ids import parse_id
from jobs.records import Job, Receipt, Source
from jobs.requests import Duration, JobRequest

LONGEST_WAIT: Final = timedelta(seconds=60)
MOST_IN_BATCH: Final = 1_000

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class BatchRequest(BaseModel):
    """Several jobs, all accepted or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: Annotated[list[JobRequest], Field(min_length=1, max_length=MOST_IN_BATCH)]


def _short(value: timedelta) -> timedelta:
    if value > LONGEST_WAIT:
        raise ValueError("at most 60s; ask again for more")
    return value


class WaitQuery(BaseModel):
    """How long to wait for the job's end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: Annotated[Duration, AfterValidator(_short)] | None = None


@router.post(
    "",
    status_code=201,
    response_model=JobObject,
    responses={
        200: {"model": JobObject, "description": "an active job holds the unique_key already: this one"},
        **guarded("VALIDATION_ERROR", "CONFLICT", "PAYLOAD_TOO_LARGE", "UNKNOWN_JOB", "INVALID_ARGUMENTS"),
    },
    openapi_extra=takes(JobRequest),
)
async def create_job(
    caller: Operator, asked: Annotated[JobRequest, body(JobRequest)], request: Request
) -> Response:
    """Accept a job; with the answer it is committed."""
    committed = await caller.door.commits.commit(
        asked,
        Source("http", caller.key.name),
        # Bodies that wait to be written are what the bound on memory is about.
        size=len(await request.body()),
        allow=lambda job: caller.check_queue(job.queue),
    )
    if not caller.sees(committed.job.queue):
        raise _held_elsewhere(asked.unique_key)
    return reply(
        JobObject.model_validate(committed.job),
        200 if committed.existed else 201,
        {"Location": f"/v1/jobs/{committed.job.id}"},
    )


@router.post(
    "/batch",
    status_code=201,
    response_model=Page[JobObject],
    responses=guarded(
        "VALIDATION_ERROR", "CONFLICT", "PAYLOAD_TOO_LARGE", "UNKNOWN_JOB", "INVALID_ARGUMENTS"
    ),
    openapi_extra=takes(BatchRequest),
)
def create_jobs(caller: Operator, asked: Annotated[BatchRequest, body(BatchRequest)]) -> Response:
    """Accept up to 1,000 jobs in one transaction, or none of them; the items are in the order of the request."""
    receipts = _accept(caller, asked.jobs)
    try:
        jobs = caller.platform.jobs.get_many([receipt.id for receipt in receipts])
    except Unavailable:
        raise Unavailable("the jobs are accepted, but cannot be shown now; do not send them again") from None
    return reply(page_of(JobObject, jobs), 201)


@router.get(
    "",
    response_model=Page[JobObject],
    responses=guarded("VALIDATION_ERROR"),
    dependencies=[Depends(each_once)],
)
def list_jobs(caller: Viewer, query: Annotated[ListQuery, Query()]) -> Response:
    """The jobs that fit, newest first."""
    which = confined(query.jobs(), caller.key.queue)
    if which is None:
        return reply(page_of(JobObject, []))
    page = caller.platform.jobs.page(which, cursor=query.cursor, limit=query.limit)
    return reply(page_of(JobObject, page.items, page.next_cursor))


@router.get("/{id}", response_model=JobObject, responses=guarded("VALIDATION_ERROR", "NOT_FOUND"))
async def show_job(
    id: str,  # noqa: A002 - the name in the path
    caller: Viewer,
    query: Annotated[WaitQuery, Query()],
    request: Request,
) -> Response:
    """The job; with `wait` as soon as it has ended, or as it stands when that takes longer."""
    job = await run_in_threadpool(caller.platform.jobs.get, parse_id(id))
    caller.check_sees(job)
    if query.wait and not job.finished:
        job = await _ended(caller.door, job, query.wait, request)
    return reply(JobObject.model_validate(job))


def _accept(caller: Caller, requests: list[JobRequest]) -> list[Receipt]:
    source = Source("http", caller.key.name)
    if caller.key.queue is None:
        return caller.platform.enqueue.many(requests, source)

    def work(connection: Connection) -> list[Receipt]:
        receipts = caller.platform.enqueue.within(connection, requests, source)
        for request, receipt in zip(requests, receipts, strict=True):
            if receipt.existed and not caller.sees(receipt.queue):
                raise _held_elsewhere(request.unique_key)
            caller.check_queue(receipt.queue)
        return receipts

    # A job that the key may not have is found out before anything is committed.
    return caller.platform.database.retrying(work)


async def _ended(door: Door, job: Job, longest: timedelta, request: Request) -> Job:
    waiting = asyncio.ensure_future(door.polls.wait(job.id, longest.total_seconds()))
    hung_up = asyncio.ensure_future(gone(request))
    try:
        await asyncio.wait({waiting, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            return job
        ended = waiting.result()
        if ended is None:
            return await run_in_threadpool(door.platform.jobs.get, job.id)
        return ended
    finally:
        for task in (waiting, hung_up):
            task.cancel()


def _held_elsewhere(unique_key: str | None) -> Conflict:
    return Conflict(f"the unique key {unique_key!r} is held by a job of another queue")
