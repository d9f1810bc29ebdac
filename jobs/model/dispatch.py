"""A job that another program's message asks for: a request, and what only messages can say about it."""

from typing import Final, NamedTuple
from uuid import UUID

from callboard.jobs.model.new_job import NewJob
from callboard.jobs.model.request import JobRequest

#: The constraint that a second job with the same id breaks.
JOB_ID_CONSTRAINT: Final = "jobs_pkey"


class Dispatch(NamedTuple):
    """A request with what no other door can ask for.

    id:           the job's id, when the message has one under which its result is looked up; else the job
                  gets a new one.
    max_attempts: as Dramatiq counts them, beyond what a request may ask for.
    barrier:      enqueue only with the last of the jobs that arrive at this barrier (a group's completion
                  callback).
    """

    request: JobRequest
    id: UUID | None = None
    max_attempts: int | None = None
    barrier: str | None = None


def dispatched(dispatch: Dispatch, job: NewJob) -> NewJob:
    """Return the checked job of a dispatch, with the id and the attempts that the message asks for."""
    if dispatch.id is not None:
        job = job._replace(id=dispatch.id)
    if dispatch.max_attempts is not None:
        job = job._replace(settings=job.settings._replace(max_attempts=dispatch.max_attempts))
    return job
