"""The rule of a schedule: when it fires."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """When a schedule fires. Exactly one of `cron`, `every` and `at` is set.

    timezone: IANA name of the zone in which `cron` is read.
    dst_gap:  what happens to a cron time that does not exist on a day: shift | skip.
    anchor:   `every` is counted from this time.
    """

    cron: str | None
    every: timedelta | None
    at: datetime | None
    timezone: str
    dst_gap: str
    anchor: datetime
