"""The values that travel between services and repositories.

Those that every attempt makes are named tuples, which cost a third of a frozen dataclass.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """When a schedule ticks: exactly one of cron, every (counted from `anchor`) and at is set."""

    cron: str | None
    every: timedelta | None
    at: datetime | None
    timezone: str
    dst_gap: str
    anchor: datetime
