"""The table of named counters."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import Base


class CounterRow(Base):
    """A named counter that expires. Dramatiq's barriers and rate limiters use it."""

    __tablename__ = "counters"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]

    __table_args__ = (
        Index("counters_expires", "expires_at"),
        CheckConstraint("length(key) BETWEEN 1 AND 500", name="key_length"),
    )
