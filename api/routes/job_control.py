"""What an operator does to jobs: cancel, retry, delete; one, or by filter."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response

from api.auth import Operator, check_sees
from api.bodies import body, takes
from api.door import Api, Door
from api.filters import BulkBody, confined
from api.openapi import guarded
from api.schemas import BulkResult, JobObject, reply
from jobs.ids import parse_id
from jobs.repositories.api_keys import ApiKey
from jobs.services.control import Bulk
from jobs.states import Verb

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


@router.post("/cancel", **_BULK)
def cancel_jobs(key: Operator, door: Api, which: Which) -> Response:
    """Cancel the unfinished jobs that fit."""
    return _bulk(Verb.CANCEL, key, door, which)


@router.post("/retry", **_BULK)
def retry_jobs(key: Operator, door: Api, which: Which) -> Response:
    """Queue the finished jobs that fit again."""
    return _bulk(Verb.RERUN, key, door, which)


@router.post("/delete", **_BULK)
def delete_jobs(key: Operator, door: Api, which: Which) -> Response:
    """Remove the finished jobs that fit."""
    return _bulk(Verb.DELETE, key, door, which)


@router.post("/{id}/cancel", **_ONE)
def cancel_job(id: str, key: Operator, door: Api) -> Response:  # noqa: A002 - the name in the path
    """End a job that has not begun; ask a running one to stop (cancel_requested_at is set)."""
    job_id = _seen(id, key, door)
    return reply(JobObject.model_validate(door.platform.control.cancel(job_id)))


@router.post("/{id}/retry", **_ONE)
def retry_job(id: str, key: Operator, door: Api) -> Response:  # noqa: A002
    """Queue a finished job again, with a fresh budget of attempts."""
    job_id = _seen(id, key, door)
    return reply(JobObject.model_validate(door.platform.control.rerun(job_id)))


@router.delete("/{id}", status_code=204, responses=guarded("VALIDATION_ERROR", "NOT_FOUND", "CONFLICT"))
def delete_job(id: str, key: Operator, door: Api) -> Response:  # noqa: A002
    """Remove a finished job."""
    door.platform.control.delete(_seen(id, key, door))
    return Response(status_code=204)


def _seen(text: str, key: ApiKey, door: Door) -> UUID:
    job_id = parse_id(text)
    if key.queue is not None:
        check_sees(key, door.platform.jobs.get(job_id))
    return job_id


def _bulk(verb: Verb, key: ApiKey, door: Door, asked: BulkBody) -> Response:
    which = confined(asked.filter.jobs(), key.queue)
    if which is None:
        done = Bulk(0, 0, asked.dry_run)
    else:
        done = door.platform.control.bulk(verb, which, limit=asked.limit, dry_run=asked.dry_run)
    return reply(BulkResult.model_validate(done))
