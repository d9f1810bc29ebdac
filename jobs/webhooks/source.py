"""A webhook source, as its row describes it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class WebhookSource:
    """An external system that may send webhooks, and the job that each delivery becomes.

    events:  the events that become jobs. Empty: all events.
    secrets: the signing secrets, encrypted.
    version: a text that changes whenever the row changes.
    """

    id: UUID
    name: str
    scheme: str
    job: str
    events: list[str]
    secrets: list[str]
    created_at: datetime
    version: str
