"""What an operator does to jobs: cancel, retry, delete; one, or by filter."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response

from callboard.api.callers import Caller, Operator
from callboard.api.http.bodies import body, takes
from callboard.api.job_json import job_json
from callboard.api.openapi import guarded
from callboard.api.query_filters import BulkBody, BulkCancelBody, CancelBody, confined
from callboard.api.schemas import BulkResult, JobObject, reply, reply_json
from callboard.jobs.model.ids import parse_id
from callboard.jobs.model.states import Verb
from callboard.jobs.operate.control import Bulk

router = APIRouter(prefix="/v1/jobs", tags=["control"])

_ONE: Final[dict[str, Any]] = {
    "response_model": JobObject,
    "responses": guarded("VALIDATION_ERROR", "NOT_FOUND", "CONFLICT"),
}
_BULK: Final[dict[str, Any]] = {
    "response_model": BulkResult,
    "responses": guarded("VALIDATION_ERROR", "PAYLOAD_TOO_LARGE"),
    "openapi_extra": takes(BulkBody),
}
Which = Annotated[BulkBody, body(BulkBody)]
WhichToCancel = Annotated[BulkCancelBody, body(BulkCancelBody)]
How = Annotated[CancelBody, body(CancelBody, required=False)]


@router.post("/cancel", **(_BULK | {"openapi_extra": takes(BulkCancelBody)}))
def cancel_jobs(caller: Operator, which: WhichToCancel) -> Response:
    """Cancel the unfinished jobs that fit; `force` as for one."""
    return _bulk(Verb.CANCEL, caller, which, force=which.force)


@router.post("/retry", **_BULK)
def retry_jobs(caller: Operator, which: Which) -> Response:
    """Queue the finished jobs that fit again."""
    return _bulk(Verb.RERUN, caller, which)


@router.post("/delete", **_BULK)
def delete_jobs(caller: Operator, which: Which) -> Response:
    """Remove the finished jobs that fit."""
    return _bulk(Verb.DELETE, caller, which)


@router.post("/{id}/cancel", **_ONE, openapi_extra=takes(CancelBody, required=False))
def cancel_job(id: str, caller: Operator, how: How) -> Response:  # noqa: A002 - the name in the path
    """End a job that has not begun; ask a running one to stop (cancel_requested_at is set).

    With `force`, the process of a job that does not stop within seconds is killed; what runs beside it goes back to its queue.
    """
    job_id = _seen(id, caller)
    return reply_json(job_json(caller.platform.control.cancel(job_id, force=how.force)))


@router.post("/{id}/retry", **_ONE)
def retry_job(id: str, caller: Operator) -> Response:  # noqa: A002
    """Queue a finished job again, with a fresh budget of attempts."""
    job_id = _seen(id, caller)
    return reply_json(job_json(caller.platform.control.rerun(job_id)))


@router.delete("/{id}", status_code=204, responses=guarded("VALIDATION_ERROR", "NOT_FOUND", "CONFLICT"))
def delete_job(id: str, caller: Operator) -> Response:  # noqa: A002
    """Remove a finished job."""
    caller.platform.control.delete(_seen(id, caller))
    return Response(status_code=204)


def _seen(text: str, caller: Caller) -> UUID:
    job_id = parse_id(text)
    if caller.key.queue is not None:
        caller.check_sees(caller.platform.jobs.get(job_id))
    return job_id


def _bulk(verb: Verb, caller: Caller, asked: BulkBody, *, force: bool = False) -> Response:
    which = confined(asked.filter.jobs(), caller.key.queue)
    if which is None:
        done = Bulk(0, 0, asked.dry_run)
    else:
        done = caller.platform.control.bulk(
            verb, which, limit=asked.limit, dry_run=asked.dry_run, force=force
        )
    return reply(BulkResult.model_validate(done))
