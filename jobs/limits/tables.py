"""What guards a start or an enqueue: grants, unique keys held for a period, answers to idempotency keys, counters."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import Base


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
