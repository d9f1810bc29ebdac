"""The table of queues."""

from datetime import datetime, timedelta

from sqlalchemy import CheckConstraint, Computed, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import END_OF_TIMES, FIRST_TIME, NOW, Base


class QueueRow(Base):
    """A queue. The first job or worker that names the queue creates its row."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: How many jobs may run at once, and how many may start within `rate_period`: of the queue, and of each
    #: limit key.
    concurrency: Mapped[int | None]
    rate: Mapped[int | None]
    rate_period: Mapped[timedelta | None]
    key_concurrency: Mapped[int | None]
    key_rate: Mapped[int | None]
    key_rate_period: Mapped[timedelta | None]
    #: Whether jobs of the queue need a grant to start.
    limited: Mapped[bool] = mapped_column(
        Computed("num_nonnulls(concurrency, rate, key_concurrency, key_rate) > 0", persisted=True)
    )
    #: Whether the feeder has counted, since the limits were set, that no more runs than they allow. Until
    #: then, no worker hands on the place of a job that it ends. A trigger sets it to false with new limits.
    within_limits: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        Index("queues_limited", "name", postgresql_where=text("limited")),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint(
            "least(concurrency, rate, key_concurrency, key_rate) >= 1"
            " AND greatest(concurrency, rate, key_concurrency, key_rate) <= 1000000",
            name="limits_range",
        ),
        CheckConstraint(
            "(rate IS NULL) = (rate_period IS NULL) AND (key_rate IS NULL) = (key_rate_period IS NULL)",
            name="rates_whole",
        ),
        CheckConstraint(
            f"least(paused_at, created_at) >= {FIRST_TIME}"
            f" AND greatest(paused_at, created_at) < {END_OF_TIMES}",
            name="times_readable",
        ),
        CheckConstraint(
            "least(rate_period, key_rate_period) >= '1 second'::interval"
            " AND greatest(rate_period, key_rate_period) <= '1 day'::interval",
            name="periods_range",
        ),
    )
