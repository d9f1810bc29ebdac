"""Webhook deliveries: a new one, and one that is stored."""

from typing import NamedTuple
from uuid import UUID


class NewDelivery(NamedTuple):
    """A verified delivery that is not stored yet.

    source_version: the version of the source whose secret verified it.
    external_id:    the sender's id of the delivery.
    body_sha256:    SHA-256 of the body, in hex.
    job_id:         the job that the delivery becomes; None when the source ignores the event.
    """

    id: UUID
    source_id: UUID
    source_version: str
    external_id: str
    event: str
    body_sha256: str
    job_id: UUID | None


class StoredDelivery(NamedTuple):
    """A stored delivery and its job; None when the source ignores the event."""

    id: UUID
    job_id: UUID | None
