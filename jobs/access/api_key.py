"""An API key, as its row describes it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret, which is not stored.

    prefix: the public part of the key's text.
    queue:  the only queue that the key may use; None: all queues.
    """

    id: UUID
    name: str
    prefix: str
    role: str
    queue: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
