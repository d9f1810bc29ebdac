"""Schedules and their ticks."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from callboard.jobs.schedules.rule import ScheduleRule


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to enqueue what."""

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
        return ScheduleRule(self.cron, self.every, self.at, self.timezone, self.dst_gap, self.created_at)


@dataclass(frozen=True, slots=True)
class Tick:
    """What became of one nominal time of a schedule."""

    schedule_id: UUID
    nominal_at: datetime
    result: str
    reason: str | None = None
    job_id: UUID | None = None
