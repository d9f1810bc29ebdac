"""Jobs: create one or many, list, look at one and wait for its end."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from callboard.api.callers import Caller, Operator, Viewer
from callboard.api.door import Door
from callboard.api.http.bodies import body, takes
from callboard.api.http.long_poll import gone
from callboard.api.idempotency_header import REPLAYED_HEADER, IdempotencyKey, once
from callboard.api.job_json import job_json, jobs_json
from callboard.api.openapi import guarded
from callboard.api.query_filters import ListQuery, confined, each_once
from callboard.api.schemas import JobObject, Page, reply_json
from callboard.jobs.enqueue.batch import NewJob, Receipt
from callboard.jobs.errors import CallboardError, Conflict, Unavailable
from callboard.jobs.model.fields import Duration
from callboard.jobs.model.ids import parse_id
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.request import JobRequest

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
        200: {
            "model": JobObject,
            "description": "the job that holds the unique_key already, which has these arguments now if on_conflict is"
            " replace; or the answer that the Idempotency-Key had the first time",
            "headers": REPLAYED_HEADER,
        },
        **guarded("VALIDATION_ERROR", "CONFLICT", "PAYLOAD_TOO_LARGE", "UNKNOWN_JOB", "INVALID_ARGUMENTS"),
    },
    openapi_extra=takes(JobRequest),
)
async def create_job(
    caller: Operator,
    asked: Annotated[JobRequest, body(JobRequest)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept a job; with the answer it is committed."""
    source = Source("http", caller.key.name)
    if idempotency_key is not None:
        check = partial(caller.platform.enqueue.check, asked, source)
        work = await run_in_threadpool(_checked_work, caller, lambda: [check()], _one_answer)
        return await once(caller, request, idempotency_key, work)
    committed = await caller.door.jobs.commit(
        asked,
        source,
        # Bodies that wait to be written are what the bound on memory is about.
        size=len(await request.body()),
        allow=lambda job: caller.check_queue(job.queue),
    )
    if not caller.sees(committed.job.queue):
        raise _held_elsewhere(committed.job.unique_key)
    answer = _one_answer([committed.job], existed=committed.existed)
    return reply_json(answer["body"], answer["status"], answer["headers"])


@router.post(
    "/batch",
    status_code=201,
    response_model=Page[JobObject],
    responses={
        200: {
            "model": Page[JobObject],
            "description": "the answer that the Idempotency-Key had the first time",
            "headers": REPLAYED_HEADER,
        },
        **guarded("VALIDATION_ERROR", "CONFLICT", "PAYLOAD_TOO_LARGE", "UNKNOWN_JOB", "INVALID_ARGUMENTS"),
    },
    openapi_extra=takes(BatchRequest),
)
async def create_jobs(
    caller: Operator,
    asked: Annotated[BatchRequest, body(BatchRequest)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Accept up to 1,000 jobs in one transaction, or none of them; the items are in the order of the request."""
    if idempotency_key is not None:
        source = Source("http", caller.key.name)
        check = partial(caller.platform.enqueue.check_all, asked.jobs, source)
        work = await run_in_threadpool(_checked_work, caller, check, _many_answer)
        return await once(caller, request, idempotency_key, work)
    return await run_in_threadpool(_accept_all, caller, asked.jobs)


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
        return reply_json(jobs_json([]))
    page = caller.platform.jobs.page(which, cursor=query.cursor, limit=query.limit)
    return reply_json(jobs_json(page.items, page.next_cursor))


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
    return reply_json(job_json(job))


def _accept_all(caller: Caller, requests: list[JobRequest]) -> Response:
    source = Source("http", caller.key.name)
    checked = caller.platform.enqueue.check_all(requests, source)
    if caller.key.queue is None:
        receipts = caller.platform.enqueue.checked(checked)
    else:
        # A job that the key may not have is found out before anything is committed.
        receipts = caller.platform.database.retrying(lambda c: _accept_within(caller, c, checked))
    try:
        jobs = caller.platform.jobs.get_many([receipt.id for receipt in receipts])
    except Unavailable:
        raise Unavailable("the jobs are accepted, but cannot be shown now; do not send them again") from None
    return reply_json(jobs_json(jobs), 201)


def _accept_within(caller: Caller, connection: Connection, checked: list[NewJob]) -> list[Receipt]:
    for job in checked:
        caller.check_queue(job.queue)
    receipts = caller.platform.enqueue.checked_within(connection, checked)
    for job, receipt in zip(checked, receipts, strict=True):
        if not caller.sees(receipt.queue):
            raise _held_elsewhere(job.unique_key)
    return receipts


def _checked_work(
    caller: Caller, check: Callable[[], list[NewJob]], answer: Callable[..., dict[str, Any]]
) -> Callable[[Connection], dict[str, Any]]:
    """What is done once: the check comes before the transaction, and its error is heard only if there is no answer yet."""
    refusal, checked = None, []
    try:
        checked = check()
    except CallboardError as error:
        refusal = error

    def work(connection: Connection) -> dict[str, Any]:
        if refusal is not None:
            raise refusal
        receipts = _accept_within(caller, connection, checked)
        jobs = caller.platform.jobs.get_many_within(connection, [receipt.id for receipt in receipts])
        return answer(jobs, existed=receipts[0].existed)

    return work


def _one_answer(jobs: list[Job], *, existed: bool) -> dict[str, Any]:
    return {
        "status": 200 if existed else 201,
        "headers": {"Location": f"/v1/jobs/{jobs[0].id}"},
        "body": job_json(jobs[0]).decode(),
    }


def _many_answer(jobs: list[Job], *, existed: bool) -> dict[str, Any]:  # noqa: ARG001 - some did, some did not
    return {"status": 201, "headers": {}, "body": jobs_json(jobs).decode()}


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
