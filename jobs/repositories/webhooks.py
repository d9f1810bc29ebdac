"""Webhook sources and their deliveries."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class WebhookSource:
    """An external system that may post, and the job its deliveries become. `secrets` are encrypted."""

    id: UUID
    name: str
    scheme: str
    job: str
    events: list[str]
    secrets: list[str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """A verified request, kept once per id of the sender."""

    id: UUID
    source_id: UUID
    external_id: str
    event: str
    received_at: datetime
    job_id: UUID | None


_COLUMNS: Final = "id, name, scheme, job, events, secrets, created_at"
_CREATE: Final = text(f"""
INSERT INTO callboard.webhook_sources (id, name, scheme, job, events, secrets)
VALUES (:id, :name, :scheme, :job, CAST(:events AS text[]), CAST(:secrets AS text[])) RETURNING {_COLUMNS}
""")


def create(connection: Connection, values: dict[str, Any]) -> WebhookSource:
    return WebhookSource(*connection.execute(_CREATE, values).one())


_LIST: Final = text(f"SELECT {_COLUMNS} FROM callboard.webhook_sources ORDER BY name LIMIT 1000")
_GET: Final = text(f"SELECT {_COLUMNS} FROM callboard.webhook_sources WHERE name = :name")
_DELETE: Final = text("DELETE FROM callboard.webhook_sources WHERE name = :name")


def every(connection: Connection) -> list[WebhookSource]:
    return [WebhookSource(*row) for row in connection.execute(_LIST)]


def get(connection: Connection, name: str) -> WebhookSource | None:
    row = connection.execute(_GET, {"name": name}).one_or_none()
    return None if row is None else WebhookSource(*row)


def delete(connection: Connection, name: str) -> bool:
    return connection.execute(_DELETE, {"name": name}).rowcount == 1


_DELIVERY: Final = "id, source_id, external_id, event, received_at, job_id"
_ACCEPT: Final = text(f"""
INSERT INTO callboard.webhook_deliveries (id, source_id, external_id, event, body_sha256)
VALUES (:id, :source_id, :external_id, :event, :body_sha256)
ON CONFLICT (source_id, external_id) DO NOTHING RETURNING {_DELIVERY}
""")
_EARLIER: Final = text(f"""
SELECT {_DELIVERY} FROM callboard.webhook_deliveries WHERE source_id = :source_id AND external_id = :external_id
""")
_ATTACH: Final = text("UPDATE callboard.webhook_deliveries SET job_id = :job WHERE id = :id")


def accept(connection: Connection, values: dict[str, Any]) -> Delivery | None:
    """Keep a delivery; None when its id came before (or is being written by another: this waits for that one)."""
    row = connection.execute(_ACCEPT, values).one_or_none()
    return None if row is None else Delivery(*row)


def earlier(connection: Connection, source: UUID, external_id: str) -> Delivery:
    """The delivery that had this id first."""
    return Delivery(*connection.execute(_EARLIER, {"source_id": source, "external_id": external_id}).one())


def attach(connection: Connection, delivery: UUID, job: UUID) -> None:
    connection.execute(_ATTACH, {"id": delivery, "job": job})
