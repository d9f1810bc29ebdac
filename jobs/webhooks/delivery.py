"""Webhook sources and their deliveries."""

from typing import NamedTuple
from uuid import UUID


class NewDelivery(NamedTuple):
    """A verified request, ready to be kept, and the job that it becomes. `source_version`: of the source that vouched for it."""

    id: UUID
    source_id: UUID
    source_version: str
    external_id: str
    event: str
    body_sha256: str
    job_id: UUID | None


class Kept(NamedTuple):
    """A delivery that is in the database, and the job that it became."""

    id: UUID
    job_id: UUID | None
