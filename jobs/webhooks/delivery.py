"""Webhook deliveries: a request as it arrived, its result, and the rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from callboard.jobs.webhooks.payload import Aside


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request to a source, as it arrived.

    `headers` are as the schemes take them (schemes/scheme.py); `body` is the raw bytes that were signed.
    `request_id` is that of the HTTP request.
    """

    source: str
    headers: Mapping[str, str]
    body: bytes
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The result of a request. A handshake has no delivery. A duplicate has the first delivery's id and jobs.

    result: accepted | duplicate | duplicate_mismatch (the first delivery had another body) | ignored (the
            source does not use the event) | handshake.
    aside:  set when the raw body is kept, because the job's arguments do not hold all of it.
    """

    delivery_id: UUID | None
    job_ids: list[UUID]
    duplicate: bool
    result: str
    aside: Aside | None = None


class NewDelivery(NamedTuple):
    """A verified delivery that is not stored yet.

    source_version: the version of the source whose secret verified it.
    external_id:    the sender's id of the delivery.
    body_sha256:    SHA-256 of the body, in hex.
    job_id:         the job that the delivery becomes; None when the source ignores the event.
    kept_body:      the raw body, if it is kept.
    """

    id: UUID
    source_id: UUID
    source_version: str
    external_id: str
    event: str
    body_sha256: str
    job_id: UUID | None
    kept_body: bytes | None = None


class StoredDelivery(NamedTuple):
    """A stored delivery, the hash of its body and its job; None when the source ignores the event."""

    id: UUID
    source_id: UUID
    external_id: str
    body_sha256: str
    job_id: UUID | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A stored delivery, as it is shown.

    source:         the name of its source.
    external_id:    the sender's id.
    body_sha256:    SHA-256 of the first body, in hex.
    job_id:         None when the source ignores the event. The job may be deleted.
    mismatch_count: how often the sender used the id again with another body; mismatched_at: when last.
    kept_bytes:     the size of the raw body, if it is kept; None when the job's payload has all of it.
    """

    id: UUID
    source: str
    external_id: str
    event: str
    received_at: datetime
    body_sha256: str
    job_id: UUID | None
    mismatch_count: int
    mismatched_at: datetime | None
    kept_bytes: int | None
