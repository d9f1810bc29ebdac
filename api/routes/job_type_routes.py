"""The route that lists the job types."""

from fastapi import APIRouter, Response

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded_responses
from callboard.api.schemas import JobTypeObject, Page, page_of, reply

router = APIRouter(prefix="/v1/job-types", tags=["catalogue"])


@router.get("", response_model=Page[JobTypeObject], responses=guarded_responses())
def list_job_types(caller: Viewer) -> Response:
    """List the job types that workers have published and the key may enqueue, by name."""
    kinds = [kind for kind in caller.platform.catalogue.every() if caller.key.may_enqueue(kind)]
    return reply(page_of(JobTypeObject, kinds))
