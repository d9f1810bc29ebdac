"""A job from another program's message: a request, and the options that only messages have."""

from typing import Final, NamedTuple
from uuid import UUID

from callboard.jobs.model.new_job import NewJob
from callboard.jobs.model.request import JobRequest

#: The constraint that a second job with the same id violates.
JOB_ID_CONSTRAINT: Final = "jobs_pkey"


class Dispatch(NamedTuple):
    """A request, with options that only a message can have.

    id:           the job's id, when the message has an id by which its result is looked up; else the job gets
                  a new id.
    max_attempts: the number that Dramatiq's options give. It may exceed the limit of a request.
    barrier:      enqueue the job when the last job arrives at this barrier (a group's completion callback).
    request_id:   the request id of the job that the message follows.
    """

    request: JobRequest
    id: UUID | None = None
    max_attempts: int | None = None
    barrier: str | None = None
    request_id: str | None = None


def dispatched(dispatch: Dispatch, job: NewJob) -> NewJob:
    """Return the checked job of a dispatch, with the message's id and number of attempts."""
    if dispatch.id is not None:
        job = job._replace(id=dispatch.id)
    if dispatch.max_attempts is not None:
        job = job._replace(settings=job.settings._replace(max_attempts=dispatch.max_attempts))
    return job
