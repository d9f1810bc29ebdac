"""The table of answers to requests with an Idempotency-Key."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import NOW, Base


class IdempotencyKeyRow(Base):
    """The stored answer to a request with an Idempotency-Key. A repeated request gets the same answer."""

    __tablename__ = "idempotency_keys"

    #: The id of the API key that sent the request. Each API key has its own idempotency keys.
    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: SHA-256 of the request. Another request with the same key is refused.
    fingerprint: Mapped[str]
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        Index("idempotency_keys_created", "created_at"),
        CheckConstraint("length(key) BETWEEN 1 AND 200", name="key_length"),
    )
