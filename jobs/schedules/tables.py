"""The tables of schedules and their ticks."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import (
    EMPTY_LIST,
    EMPTY_OBJECT,
    END_OF_TIMES,
    FIRST_TIME,
    NOW,
    Base,
)

_TIMES: Final = "at, paused_at, created_at, next_fire_at, last_fire_at"


class ScheduleRow(Base):
    """A schedule. Exactly one of cron, every and at is set."""

    __tablename__ = "schedules"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    job: Mapped[str]
    queue: Mapped[str | None]
    priority: Mapped[int | None] = mapped_column(SmallInteger)
    args: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    kwargs: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    cron: Mapped[str | None]
    every: Mapped[timedelta | None]
    at: Mapped[datetime | None]
    timezone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    dst_gap: Mapped[str] = mapped_column(server_default=text("'shift'"))
    overlap: Mapped[str] = mapped_column(server_default=text("'skip'"))
    catchup: Mapped[str] = mapped_column(server_default=text("'latest'"))
    catchup_window: Mapped[timedelta] = mapped_column(server_default=text("'01:00:00'::interval"))
    paused_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: The nominal time of the next tick. Null when the schedule is paused or has no tick left.
    next_fire_at: Mapped[datetime | None]
    last_fire_at: Mapped[datetime | None]
    #: The job of the last tick that fired. `overlap` depends on whether it is unfinished.
    last_job_id: Mapped[UUID | None]

    __table_args__ = (
        Index("schedules_name_key", "name", unique=True),
        Index("schedules_due", "next_fire_at", postgresql_where=text("next_fire_at IS NOT NULL")),
        CheckConstraint("num_nonnulls(cron, every, at) = 1", name="one_rule"),
        CheckConstraint("dst_gap IN ('shift', 'skip')", name="dst_gap_known"),
        CheckConstraint("overlap IN ('skip', 'allow_all')", name="overlap_known"),
        CheckConstraint("catchup IN ('latest', 'none')", name="catchup_known"),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
        CheckConstraint(
            f"least({_TIMES}) >= {FIRST_TIME} AND greatest({_TIMES}) < {END_OF_TIMES}", name="times_readable"
        ),
        CheckConstraint(
            "every > '0'::interval AND every <= '3900 days'::interval"
            " AND catchup_window >= '0'::interval AND catchup_window <= '3900 days'::interval",
            name="spans_range",
        ),
        CheckConstraint("jsonb_typeof(args) = 'array' AND jsonb_typeof(kwargs) = 'object'", name="arguments"),
        CheckConstraint(
            "length(job) BETWEEN 1 AND 200 AND length(queue) BETWEEN 1 AND 100"
            " AND length(cron) BETWEEN 1 AND 256 AND length(timezone) BETWEEN 1 AND 64",
            name="texts",
        ),
    )


class ScheduleTickRow(Base):
    """One tick of a schedule. The primary key allows one row for each nominal time of a schedule."""

    __tablename__ = "schedule_ticks"

    schedule_id: Mapped[UUID] = mapped_column(
        ForeignKey(ScheduleRow.id, ondelete="CASCADE"), primary_key=True
    )
    nominal_at: Mapped[datetime] = mapped_column(primary_key=True)
    decided_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: fired | caught_up (fired late) | skipped (the previous job is unfinished) | missed (too late to catch
    #: up)
    result: Mapped[str]
    reason: Mapped[str | None]
    job_id: Mapped[UUID | None]

    __table_args__ = (
        Index("schedule_ticks_decided", "decided_at"),
        CheckConstraint("result IN ('fired', 'caught_up', 'skipped', 'missed')", name="result_known"),
        CheckConstraint("(job_id IS NOT NULL) = (result IN ('fired', 'caught_up'))", name="job_when_fired"),
    )
