"""Values: a schedule and its ticks, read from their rows."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from callboard.jobs.schedules.rule import ScheduleRule


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule: which job it enqueues, and when.

    overlap:        what a tick does while the previous job is unfinished: skip | allow_all.
    catchup:        whether a tick that is late still enqueues its job: latest (only the latest late tick
                    does) | none.
    catchup_window: a tick that is later than this is missed.
    """

    id: UUID
    name: str
    job: str
    queue: str | None
    priority: int | None
    args: list[Any]
    kwargs: dict[str, Any]
    cron: str | None
    every: timedelta | None
    at: datetime | None
    timezone: str
    dst_gap: str
    overlap: str
    catchup: str
    catchup_window: timedelta
    paused_at: datetime | None
    created_at: datetime
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    last_job_id: UUID | None

    @property
    def rule(self) -> ScheduleRule:
        """Return the rule of the schedule. An interval starts at the creation of the schedule."""
        return ScheduleRule(
            cron=self.cron,
            every=self.every,
            at=self.at,
            timezone=self.timezone,
            dst_gap=self.dst_gap,
            anchor=self.created_at,
        )


@dataclass(frozen=True, slots=True)
class Tick:
    """The decision about one nominal time of a schedule.

    nominal_at: the time that the calendar gives.
    result:     fired | caught_up | skipped | missed.
    reason:     why it was skipped or missed.
    job_id:     the job that was enqueued; None when it was skipped or missed.
    """

    schedule_id: UUID
    nominal_at: datetime
    result: str
    reason: str | None = None
    job_id: UUID | None = None
