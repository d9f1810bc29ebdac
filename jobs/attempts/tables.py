"""The table of what jobs log."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.enqueue.tables import JobRow
from callboard.jobs.postgres.table_base import EMPTY_ARRAY, NOW, Base


class JobLogRow(Base):
    """A line that an attempt logged. Goes with its job; the newest of an attempt are kept."""

    __tablename__ = "job_logs"

    job_id: Mapped[UUID] = mapped_column(ForeignKey(JobRow.id, ondelete="CASCADE"), primary_key=True)
    #: The claim's epoch: attempts that were given back have the same number, and never the same epoch.
    epoch: Mapped[int] = mapped_column(primary_key=True)
    #: Counts from 1 within the claim.
    line: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    logged_at: Mapped[datetime]
    level: Mapped[str]
    logger: Mapped[str]
    message: Mapped[str]

    __table_args__ = (
        CheckConstraint(
            "length(level) <= 20 AND length(logger) <= 200 AND length(message) <= 4000", name="lengths"
        ),
    )


class WorkerRow(Base):
    """A worker process and its lease. No row, or a lease that has run out: nothing it writes counts."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    #: The queues it serves in order of preference; empty means all.
    queues: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    job_names: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    threads: Mapped[int]
    slots: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    lease_expires_at: Mapped[datetime]
    draining_since: Mapped[datetime | None]

    __table_args__ = (Index("workers_lease", "lease_expires_at"),)
