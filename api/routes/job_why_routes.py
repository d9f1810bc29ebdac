"""The route that explains why a job is not running."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field
from typing_extensions import TypeAliasType

from callboard.api.callers import Viewer
from callboard.api.job_route import JobRoute
from callboard.api.openapi import guarded_responses
from callboard.api.path_parameters import UuidText
from callboard.api.schemas import Shown, one_of, reply
from callboard.jobs.model.basics.ids import parse_id
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.reasons import Code

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JobRoute)


ReasonCode = TypeAliasType("ReasonCode", Annotated[str, one_of(*Code)])
ReasonData = TypeAliasType("ReasonData", dict[str, Any])


class ReasonObject(Shown):
    """One reason that applies now."""

    code: ReasonCode
    message: str = Field(description="one line for people, with a way to fix it where there is one")
    data: ReasonData = Field(description="the facts of the message as values; the code decides which")


class WhyObject(Shown):
    """A job's state and the reasons for it, the most important first. There is at least one reason."""

    job_id: UUID
    state: JobState
    reasons: list[ReasonObject]


@router.get(
    "/{id}/why", response_model=WhyObject, responses=guarded_responses("VALIDATION_ERROR", "NOT_FOUND")
)
def explain_job(id: UuidText, caller: Viewer) -> Response:  # noqa: A002 - the name in the path
    """Explain why the job does not run, or say that it runs or has ended."""
    # A key that is restricted to a job may not see the ids of other jobs in the same queue.
    explanation = caller.platform.why.explain(
        parse_id(id),
        name_others=caller.key.job is None,
        is_visible=lambda job: caller.key.sees_job(job.name, job.queue),
    )
    return reply(WhyObject.model_validate(explanation))
