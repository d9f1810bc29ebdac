"""What guards a start or an enqueue: grants, unique keys held for a period, answers to idempotency keys, counters."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.base import NOW, Base
from jobs.models.work import JobRow


class GrantRow(Base):
    """Leave for one attempt to start within its queue's limits.

    Outstanding until the claim dates `started_at`; kept from then on for as long as a rate counts it. It names its job
    without a foreign key: a job that is deleted has started all the same.
    """

    __tablename__ = "grants"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    queue: Mapped[str]
    limit_key: Mapped[str | None]
    granted_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    started_at: Mapped[datetime | None]
    #: How many starts the row stands for: those of the past are folded, when they are many.
    uses: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        Index("grants_queue", "queue", "started_at"),
        Index(
            "grants_keyed", "queue", "limit_key", "started_at", postgresql_where=text("limit_key IS NOT NULL")
        ),
    )


class UniqueHoldRow(Base):
    """A unique key that is held for a period, whatever becomes of the job that took it."""

    __tablename__ = "unique_holds"

    key: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey(JobRow.id, ondelete="CASCADE"))
    until: Mapped[datetime]

    __table_args__ = (
        Index("unique_holds_job", "job_id"),
        Index("unique_holds_until", "until"),
        CheckConstraint("length(key) BETWEEN 1 AND 200", name="key_length"),
    )


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


class CounterRow(Base):
    """A named count that expires: Dramatiq's barriers and rate limiters."""

    __tablename__ = "counters"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]

    __table_args__ = (
        Index("counters_expires", "expires_at"),
        CheckConstraint("length(key) BETWEEN 1 AND 500", name="key_length"),
    )
