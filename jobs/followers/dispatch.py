"""A job that is to be: a request, and what only Dramatiq's messages say about it."""

from typing import NamedTuple
from uuid import UUID

from callboard.jobs.model.request import JobRequest


class Dispatch(NamedTuple):
    """A request with what no other door can ask for.

    id:           the job's id, when the message has one by which its result is looked for; else a new one.
    max_attempts: as Dramatiq counts, beyond what a request may ask.
    barrier:      enqueue only with the last of those who arrive at this barrier (a group's completion callback).
    """

    request: JobRequest
    id: UUID | None = None
    max_attempts: int | None = None
    barrier: str | None = None
