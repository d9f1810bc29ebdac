"""Why a job is not running."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded
from callboard.api.schemas import Shown, reply
from callboard.jobs.errors import NotFound
from callboard.jobs.model.ids import parse_id
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.reasons import Code

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class ReasonObject(Shown):
    """One reason that holds now."""

    code: Code
    message: str = Field(description="one line for people, with the mend where there is one")
    data: dict[str, Any] = Field(description="the same as values; which, depends on the code")


class WhyObject(Shown):
    """How a job stands, and why: the most decisive reason first, one at least."""

    job_id: UUID
    state: JobState
    reasons: list[ReasonObject]


@router.get("/{id}/why", response_model=WhyObject, responses=guarded("VALIDATION_ERROR", "NOT_FOUND"))
def explain_job(id: str, caller: Viewer) -> Response:  # noqa: A002 - the name in the path
    """The reasons for which the job does not run, or that it does, or did."""
    explained = caller.platform.why.explain(parse_id(id))
    if not caller.sees(explained.queue):
        raise NotFound(f"there is no job {explained.job_id}")
    return reply(WhyObject.model_validate(explained))
