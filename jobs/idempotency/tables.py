"""What guards a start or an enqueue: grants, unique keys held for a period, answers to idempotency keys, counters."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import NOW, Base


class IdempotencyKeyRow(Base):
    """The answer to a request that named an Idempotency-Key, for those who ask again."""

    __tablename__ = "idempotency_keys"

    #: Whose key it is: the API key's id.
    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: SHA-256 of the request: the same key with another request is a mistake.
    fingerprint: Mapped[str]
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        Index("idempotency_keys_created", "created_at"),
        CheckConstraint("length(key) BETWEEN 1 AND 200", name="key_length"),
    )
