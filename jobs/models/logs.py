"""The table of what jobs log."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.base import Base
from jobs.models.work import JobRow


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
