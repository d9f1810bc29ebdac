"""Routes that create jobs: one, or a batch."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from callboard.api.callers import Caller, Operator
from callboard.api.direct_route import direct_router
from callboard.api.http.bodies import MAX_INLINE, body, request_body_schema
from callboard.api.idempotency_header import REPLAYED_HEADER, IdempotencyKey, once
from callboard.api.job_json import job_json, jobs_json
from callboard.api.openapi import BODY_ERRORS, guarded_responses
from callboard.api.openapi_parts import JOB_LINKS, header_references
from callboard.api.schemas import JobObject, Page, reply_json
from callboard.jobs.errors import CallboardError, Conflict, Unavailable
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.new_job import Batch, MixedJobs
from callboard.jobs.model.receipt import Receipt, Written
from callboard.jobs.model.request import JobRequest
from callboard.jobs.postgres.protocols import Statements

MOST_IN_BATCH: Final = 1_000
_LOCATION: Final = header_references("Location")

router = direct_router("/v1/jobs", "jobs")


class BatchRequest(BaseModel):
    """Several jobs, all accepted or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: Annotated[list[JobRequest], Field(min_length=1, max_length=MOST_IN_BATCH)]


@router.post(
    "",
    status_code=201,
    response_model=JobObject,
    responses={
        200: {
            "model": JobObject,
            "description": "the job that holds the unique_key, with these arguments if on_conflict is replace"
            "; or the first answer to the Idempotency-Key",
            "headers": {**_LOCATION, **REPLAYED_HEADER},
        },
        201: {"description": "the job is committed", "headers": _LOCATION, "links": JOB_LINKS},
        **guarded_responses("VALIDATION_ERROR", "CONFLICT", *BODY_ERRORS, "UNKNOWN_JOB", "INVALID_ARGUMENTS"),
    },
    openapi_extra=request_body_schema(JobRequest),
)
async def create_job(
    caller: Operator,
    asked: Annotated[JobRequest, body(JobRequest)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Enqueue a job; when the answer arrives, the job is committed."""
    enqueue, source = caller.platform.enqueue, _source(caller, request)
    if idempotency_key is not None:
        work = await run_in_threadpool(
            _once_work, caller, lambda: _checked(caller, asked, source), _one_answer
        )
        return await once(caller, request, idempotency_key, work)
    size = len(await request.body())
    batch = None
    if size <= MAX_INLINE and caller.confines_quickly(asked):
        batch = enqueue.check_cached(caller.confine(asked), source)
    if batch is None:
        batch = await run_in_threadpool(_checked, caller, asked, source)
    written = await enqueue.accept_async(batch, size=size)
    [receipt] = written.receipts
    # The log line of the request has both ids: the lines of the worker have the job's.
    request.state.job_id = str(receipt.id)
    if not caller.key.sees_job(receipt.name, receipt.queue):
        raise _held_elsewhere(batch)
    jobs = caller.platform.jobs.as_written(batch, written)
    if jobs is None:
        jobs = await run_in_threadpool(caller.platform.jobs.enqueued_many, batch, written)
    answer = _one_answer(jobs, [receipt])
    return reply_json(answer["body"], answer["status"], answer["headers"])


@router.post(
    "/batch",
    status_code=201,
    response_model=Page[JobObject],
    responses={
        200: {
            "model": Page[JobObject],
            "description": "the first answer to the Idempotency-Key",
            "headers": REPLAYED_HEADER,
        },
        201: {"description": "all jobs are committed"},
        **guarded_responses("VALIDATION_ERROR", "CONFLICT", *BODY_ERRORS, "UNKNOWN_JOB", "INVALID_ARGUMENTS"),
    },
    openapi_extra=request_body_schema(BatchRequest),
)
async def create_jobs(
    caller: Operator,
    asked: Annotated[BatchRequest, body(BatchRequest)],
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Enqueue up to 1,000 jobs in one transaction, or none; the items are in the order of the request."""
    source = _source(caller, request)
    if idempotency_key is not None:
        work = await run_in_threadpool(
            _once_work, caller, lambda: _all_checked(caller, asked.jobs, source), _many_answer
        )
        return await once(caller, request, idempotency_key, work)
    return await run_in_threadpool(_create_all, caller, asked.jobs, source)


def _source(caller: Caller, request: Request) -> Source:
    return Source("http", caller.key.name, request.state.request_id)


def _create_all(caller: Caller, requests: list[JobRequest], source: Source) -> Response:
    batch = _all_checked(caller, requests, source)
    if isinstance(batch, MixedJobs) and batch.has_keys:
        # The jobs that hold the keys are read in the same transaction: when one cannot be read, or may not be
        # seen, nothing is committed.
        jobs = caller.platform.enqueue.accept_with(batch, partial(_read_within, caller, batch))
    else:
        jobs = caller.platform.jobs.enqueued_many(batch, caller.platform.enqueue.accept(batch))
    return reply_json(jobs_json(jobs), 201)


def _checked(caller: Caller, request: JobRequest, source: Source) -> Batch:
    return caller.platform.enqueue.check(caller.confine(request), source)


def _all_checked(caller: Caller, requests: list[JobRequest], source: Source) -> Batch:
    if caller.key.confined:
        requests = [caller.confine(request, f"jobs[{index}]: ") for index, request in enumerate(requests)]
    return caller.platform.enqueue.check_all(requests, source)


def _within(caller: Caller, statements: Statements, batch: Batch) -> Written:
    written = caller.platform.enqueue.within(statements, batch)
    _check_seen(caller, batch, written)
    return written


def _read_within(caller: Caller, batch: Batch, statements: Statements, written: Written) -> list[Job]:
    _check_seen(caller, batch, written)
    jobs = caller.platform.jobs.get_many_within(statements, written.ids)
    if len(jobs) < len(written.ids):
        raise Unavailable("a job that holds one of the unique keys was deleted meanwhile; try again")
    return jobs


def _check_seen(caller: Caller, batch: Batch, written: Written) -> None:
    if not all(caller.key.sees_job(receipt.name, receipt.queue) for receipt in written.receipts):
        raise _held_elsewhere(batch)


def _once_work(
    caller: Caller, check: Callable[[], Batch], answer: Callable[[list[Job], list[Receipt]], dict[str, Any]]
) -> Callable[[Statements], dict[str, Any]]:
    """Return the work to do once for an Idempotency-Key.

    The requests are checked before the transaction; an error is raised in it, and only when there is no
    stored answer.
    """
    refusal: CallboardError | None = None
    batch: Batch | None = None
    try:
        batch = check()
    except CallboardError as error:
        refusal = error

    def work(statements: Statements) -> dict[str, Any]:
        if refusal is not None or batch is None:
            raise refusal or RuntimeError("a check returns a batch or raises")
        written = _within(caller, statements, batch)
        return answer(caller.platform.jobs.get_many_within(statements, written.ids), written.receipts)

    return work


def _one_answer(jobs: list[Job], receipts: list[Receipt]) -> dict[str, Any]:
    return {
        "status": 200 if receipts[0].existed else 201,
        "headers": {"Location": f"/v1/jobs/{jobs[0].id}"},
        "body": job_json(jobs[0]).decode(),
    }


def _many_answer(jobs: list[Job], _receipts: list[Receipt]) -> dict[str, Any]:
    return {"status": 201, "headers": {}, "body": jobs_json(jobs).decode()}


def _held_elsewhere(batch: Batch) -> Conflict:
    keys = [job.unique.key for job in batch.jobs if job.unique is not None]
    named = f"the unique key {keys[0]!r}" if len(keys) == 1 else "one of the unique keys"
    return Conflict(f"{named} is held by a job of another name or queue")
