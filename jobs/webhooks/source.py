"""Webhook sources and their deliveries."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class WebhookSource:
    """An external system that may post, and the job its deliveries become. `secrets` are encrypted.

    version: changes whenever anything of the source does.
    """

    id: UUID
    name: str
    scheme: str
    job: str
    events: list[str]
    secrets: list[str]
    created_at: datetime
    version: str
