"""Routes that cancel, retry and delete jobs, by id or by filter."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response

from callboard.api.callers import Caller, Operator
from callboard.api.http.bodies import body, request_body_schema
from callboard.api.job_json import job_json
from callboard.api.job_route import JobRoute
from callboard.api.openapi import BODY_ERRORS, guarded_responses
from callboard.api.path_parameters import UuidText
from callboard.api.query_filters import BulkBody, BulkCancelBody, CancelBody, restrict_to_key
from callboard.api.schemas import BulkResult, JobObject, reply, reply_json
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.states import Verb
from callboard.jobs.operate.control import Bulk

router = APIRouter(prefix="/v1/jobs", tags=["control"], route_class=JobRoute)

_ONE: Final[dict[str, Any]] = {
    "response_model": JobObject,
    "responses": guarded_responses("VALIDATION_ERROR", "NOT_FOUND", "CONFLICT"),
}
_BULK: Final[dict[str, Any]] = {
    "response_model": BulkResult,
    "responses": guarded_responses("VALIDATION_ERROR", *BODY_ERRORS),
    "openapi_extra": request_body_schema(BulkBody),
}
Target = Annotated[BulkBody, body(BulkBody)]
CancelTarget = Annotated[BulkCancelBody, body(BulkCancelBody)]
CancelOptions = Annotated[CancelBody, body(CancelBody, required=False)]


@router.post("/cancel", **(_BULK | {"openapi_extra": request_body_schema(BulkCancelBody)}))
def cancel_jobs(caller: Operator, target: CancelTarget) -> Response:
    """Cancel all matching unfinished jobs. `force` works as for one job."""
    return _bulk(Verb.CANCEL, caller, target, force=target.force)


@router.post("/retry", **_BULK)
def retry_jobs(caller: Operator, target: Target) -> Response:
    """Queue all matching finished jobs again."""
    return _bulk(Verb.RERUN, caller, target)


@router.post("/delete", **_BULK)
def delete_jobs(caller: Operator, target: Target) -> Response:
    """Delete all matching finished jobs."""
    return _bulk(Verb.DELETE, caller, target)


@router.post(
    "/{id}/cancel",
    response_model=JobObject,
    responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND", "CONFLICT", *BODY_ERRORS),
    openapi_extra=request_body_schema(CancelBody, required=False),
)
def cancel_job(
    id: UuidText,  # noqa: A002 - the name in the path
    caller: Operator,
    options: CancelOptions,
) -> Response:
    """Cancel a job that has not started; ask a running one to stop (sets cancel_requested_at).

    With `force`, the process of a job that does not stop within a few seconds is killed. The other jobs of
    that process go back to their queues.
    """
    job_id = _visible_id(id, caller)
    return reply_json(job_json(caller.platform.control.cancel(job_id, force=options.force)))


@router.post("/{id}/retry", **_ONE)
def retry_job(id: UuidText, caller: Operator) -> Response:  # noqa: A002
    """Queue a finished job again, with its full number of attempts."""
    job_id = _visible_id(id, caller)
    return reply_json(job_json(caller.platform.control.rerun(job_id)))


@router.delete(
    "/{id}", status_code=204, responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND", "CONFLICT")
)
def delete_job(id: UuidText, caller: Operator) -> Response:  # noqa: A002
    """Delete a finished job."""
    caller.platform.control.delete(_visible_id(id, caller))
    return Response(status_code=204)


def _visible_id(text: str, caller: Caller) -> UUID:
    job_id = parse_id(text)
    if caller.key.confined:
        caller.check_sees(caller.platform.jobs.get(job_id))
    return job_id


def _bulk(verb: Verb, caller: Caller, target: BulkBody, *, force: bool = False) -> Response:
    job_filter = restrict_to_key(target.jobs(), caller.key)
    if job_filter is None:
        result = Bulk(0, 0, target.dry_run)
    else:
        result = caller.platform.control.bulk(
            verb, job_filter, limit=target.limit, dry_run=target.dry_run, force=force
        )
    return reply(BulkResult.model_validate(result))
