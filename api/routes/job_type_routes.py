"""The route that lists the job types."""

from itertools import groupby
from typing import Any

from fastapi import APIRouter, Response

from callboard.api.callers import Viewer
from callboard.api.openapi import guarded_responses
from callboard.api.schemas import JobTypeVersions, Page, page_of, reply
from callboard.jobs.model.job_type import JobVersion

router = APIRouter(prefix="/v1/job-types", tags=["catalogue"])


@router.get("", response_model=Page[JobTypeVersions], responses=guarded_responses())
def list_job_types(caller: Viewer) -> Response:
    """List the job types that were published and the key may enqueue, by name, with their versions."""
    found = [one for one in caller.platform.catalogue.versions() if caller.key.may_enqueue(one.type)]
    named = [list(versions) for _, versions in groupby(found, lambda one: one.type.name)]
    return reply(page_of(JobTypeVersions, [_shown(versions) for versions in named]))


def _shown(versions: list[JobVersion]) -> dict[str, Any]:
    first = next((one for one in versions if one.is_current), versions[0])
    return _fields(first) | {"versions": [_fields(one) for one in versions]}


def _fields(version: JobVersion) -> dict[str, Any]:
    names = JobVersion.__dataclass_fields__.keys() - {"type"}
    kinds = version.type.__dataclass_fields__
    return {name: getattr(version.type, name) for name in kinds} | {
        name: getattr(version, name) for name in names
    }
