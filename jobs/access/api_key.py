"""API keys: digests, roles, revocation."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown: its secret is not kept."""

    id: UUID
    name: str
    prefix: str
    role: str
    queue: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
