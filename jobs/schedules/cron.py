"""Cron expressions, and the calendar of a schedule's rule.

An expression has five fields: minute, hour, day-of-month, month, day-of-week. A field is a list of `*`, `n`
or `a-b`, each with an optional `/step`. Months and weekdays can be three-letter names. 0 and 7 are Sunday. A
range of weekdays can cross the end of the week (`fri-mon`). day-of-month accepts `L`, the last day of the
month. day-of-week accepts `5#3`, the third Friday, and `5L`, the last Friday.

The two day fields combine as in Vixie's cron: if neither starts with `*`, the schedule fires on a day that
matches one of them; otherwise, on a day that matches both.
"""

import re
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NoReturn

from apscheduler.triggers.cron import CronTrigger

from callboard.jobs.errors import InvalidInput
from callboard.jobs.schedules.calendar import (
    HORIZON,
    Calendar,
    DstGap,
    WallCalendar,
    interval_calendar,
    jitter,
    once_calendar,
    parse_gap,
    parse_timezone,
)
from callboard.jobs.schedules.rule import ScheduleRule

__all__ = [
    "Calendar",
    "Cron",
    "DstGap",
    "cron_calendar",
    "interval_calendar",
    "jitter",
    "once_calendar",
    "parse_cron",
    "parse_gap",
    "parse_timezone",
    "spec_calendar",
]

_LONGEST: Final = 256
_MACROS: Final = MappingProxyType(
    {
        "@hourly": "0 * * * *",
        "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *",
        "@weekly": "0 0 * * 0",
        "@monthly": "0 0 1 * *",
        "@yearly": "0 0 1 1 *",
        "@annually": "0 0 1 1 *",
    }
)
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_POSITIONS: Final = MappingProxyType(
    {"1": "1st", "2": "2nd", "3": "3rd", "4": "4th", "5": "5th", "l": "last"}
)
_ITEM: Final = re.compile(r"(?:\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]{1,4}))?")
_POSITION: Final = re.compile(r"([0-7]|[a-z]{3})(?:#([0-9])|(l))")
#: The start of a leap year. The years from here to the horizon have every combination of date and weekday.
_SAMPLE: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    hint: str = ""

    def refuse(self, item: str, hint: str) -> NoReturn:
        """Raise InvalidInput for an item of this field. `hint` says what to write instead."""
        raise InvalidInput(
            f"{item[:40]!r} is not valid in the {self.name} field of the cron expression: {hint}",
            fields={"cron": f"{self.name}: {hint}"},
        )

    def text(self, values: frozenset[int]) -> str:
        """Return the values as an APScheduler field."""
        whole = len(values) > self.high - self.low
        return "*" if whole else ",".join(str(value) for value in sorted(values))


_MINUTE: Final = _Field("minute", 0, 59)
_HOUR: Final = _Field("hour", 0, 23)
_DAY: Final = _Field("day-of-month", 1, 31, hint=", or L for the last")
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_WEEKDAY: Final = _Field("day-of-week", 0, 6, _WEEKDAYS, ", 5#3 for a third Friday, 5L for a last one")


@dataclass(frozen=True, slots=True)
class _Branch:
    """An APScheduler trigger, restricted to some days of the month (None: all days)."""

    trigger: CronTrigger
    days: frozenset[int] | None = None
    last_day: bool = False

    def next_wall(self, after: datetime, limit: datetime) -> datetime | None:
        # The trigger may return its start time, so start one microsecond later.
        start = after + timedelta.resolution
        while start <= limit:
            found: datetime | None = self.trigger.get_next_fire_time(None, start.replace(tzinfo=UTC))
            if found is None or (wall := found.replace(tzinfo=None)) > limit:
                return None
            if self._allows(wall):
                return wall
            start = datetime.combine(wall.date() + timedelta(days=1), time.min)
        return None

    def _allows(self, wall: datetime) -> bool:
        if self.days is None or wall.day in self.days:
            return True
        return self.last_day and wall.day == monthrange(wall.year, wall.month)[1]


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed cron expression: wall times without a time zone.

    expression:    the text of the expression, with single spaces.
    follows_clock: whether the minute or the hour field starts with `*`.
    """

    expression: str
    follows_clock: bool
    _branches: tuple[_Branch, ...] = field(repr=False, compare=False)

    def next_wall(self, after: datetime, limit: datetime) -> datetime | None:
        """Return the first wall time after `after`; None when it is later than `limit`. All are naive."""
        walls = (branch.next_wall(after, limit) for branch in self._branches)
        return min((wall for wall in walls if wall is not None), default=None)


@lru_cache(maxsize=1024)
def parse_cron(expr: str) -> Cron:
    """Parse a cron expression. Raises InvalidInput, which names the field and says what to write instead."""
    if len(expr) > _LONGEST:
        raise InvalidInput(
            f"a cron expression has at most {_LONGEST} characters; use ranges and steps",
            fields={"cron": "too long"},
        )
    expression = " ".join(expr.split())
    lowered = expression.lower()
    if lowered.startswith("@") and lowered not in _MACROS:
        raise InvalidInput(
            f"unknown cron name {expression[:40]!r}: use one of {' '.join(_MACROS)}",
            fields={"cron": "unknown name"},
        )
    parts = _MACROS.get(lowered, lowered).split()
    if len(parts) != 5:  # noqa: PLR2004 - the five fields
        raise InvalidInput(
            f"a cron expression has five fields, not {len(parts)}: minute hour day-of-month month day-of-week"
            " (there is no field for seconds or years)",
            fields={"cron": "five fields are expected"},
        )
    branches = tuple(
        branch for branch in _branches(parts) if branch.next_wall(_SAMPLE, _SAMPLE + HORIZON) is not None
    )
    if not branches:
        raise InvalidInput(
            f"the cron expression {expression!r} never fires: no date matches its day-of-month, month and"
            " day-of-week fields",
            fields={"cron": "never fires"},
        )
    return Cron(expression, parts[0].startswith("*") or parts[1].startswith("*"), branches)


def cron_calendar(expr: str, tz: str, dst_gap: DstGap = "shift") -> WallCalendar:
    """Make the calendar of a cron expression in a time zone. Raises InvalidInput."""
    return WallCalendar(parse_cron(expr), parse_timezone(tz), parse_gap(dst_gap))


def spec_calendar(rule: ScheduleRule) -> Calendar:
    """Make the calendar of a schedule's rule. Raises InvalidInput."""
    gap, zone = parse_gap(rule.dst_gap), parse_timezone(rule.timezone)
    match (rule.cron, rule.every, rule.at):
        case (str(expr), None, None):
            return WallCalendar(parse_cron(expr), zone, gap)
        case (None, timedelta() as every, None):
            return interval_calendar(every, rule.anchor)
        case (None, None, datetime() as at):
            return once_calendar(at)
    raise InvalidInput(
        "a schedule has exactly one of cron, every and at", fields={"cron": "one of cron, every, at"}
    )


def _branches(parts: list[str]) -> list[_Branch]:
    """Return the triggers for the five fields. The expression fires when one of them fires."""
    minutes, hours, months = (
        _values(each, parts[index].split(",")) for each, index in ((_MINUTE, 0), (_HOUR, 1), (_MONTH, 3))
    )
    items = parts[2].split(",")
    last_day, days = "l" in items, _values(_DAY, [item for item in items if item != "l"])
    day_text = ",".join(filter(None, (_DAY.text(days), "last" if last_day else "")))
    items = parts[4].split(",")
    positions = [found for item in items if (found := _position(item))]
    weekdays = _values(_WEEKDAY, [item for item in items if not _position(item)])
    # APScheduler numbers the weekdays from Monday.
    weekday_text = _WEEKDAY.text(frozenset((day - 1) % 7 for day in weekdays))

    def branch(day: str, weekday: str, days: frozenset[int] | None = None) -> _Branch:
        trigger = CronTrigger(
            month=_MONTH.text(months),
            day=day,
            day_of_week=weekday,
            hour=_HOUR.text(hours),
            minute=_MINUTE.text(minutes),
            second=0,
            timezone=UTC,
        )
        return _Branch(trigger, days, last_day)

    either = not parts[2].startswith("*") and not parts[4].startswith("*")
    # A trigger for a date that does not exist, such as 30 February, would search through 8,000 years.
    dated = last_day or any(monthrange(_SAMPLE.year, month)[1] >= min(days) for month in months)
    if not (either or dated):
        return []
    branches = [branch(day_text, "*")] if either and dated else []
    if weekdays:
        branches.append(branch("*" if either else day_text, weekday_text))
    if positions:
        branches.append(branch(",".join(positions), "*", None if either else days))
    return branches


def _values(of: _Field, items: list[str]) -> frozenset[int]:
    """Return the numbers that the items of a field mean."""
    return frozenset(value for item in items for value in _item(of, item))


def _item(of: _Field, item: str) -> range | frozenset[int]:
    found = _ITEM.fullmatch(item)
    if not found:
        of.refuse(item, "write *, a number, a range such as 1-5, or one of these with a step such as */2")
    first, last, step_text = found.groups()
    step, size = int(step_text or 1), of.high - of.low + 1
    if not 1 <= step <= size:
        of.refuse(item, f"a step is between 1 and {size}")
    if first is None:
        return range(of.low, of.high + 1, step)
    low = _number(of, first, item)
    high = low if last is None else _number(of, last, item)
    if last is None and step_text:
        high = of.high
    if of is _WEEKDAY:
        # 7 is also Sunday, and a range can cross the end of the week: fri-mon, sat-sun.
        high += 7 if high < low else 0
        return frozenset(day % 7 for day in range(low, high + 1, step))
    if high < low:
        of.refuse(item, f"a range must go upwards; write {first}-{of.high},{of.low}-{last}")
    return range(low, high + 1, step)


def _number(of: _Field, text: str, item: str) -> int:
    if text in of.names:
        return of.low + of.names.index(text)
    top = of.high + 1 if of is _WEEKDAY else of.high
    number = int(text) if text.isdecimal() else -1
    if not of.low <= number <= top:
        names = f" or a three-letter name, {' '.join(of.names)}" if of.names else ""
        of.refuse(item, f"write {of.low} to {top}{names}{of.hint}")
    return number


def _position(item: str) -> str | None:
    """Return `5#3` as APScheduler writes it, `3rd fri`; None when the item is not of this form."""
    found = _POSITION.fullmatch(item)
    if not found:
        return None
    weekday = _WEEKDAYS[_number(_WEEKDAY, found[1], item) % 7]
    place = _POSITIONS.get(found[2] or found[3])
    if place is None:
        _WEEKDAY.refuse(item, "a weekday occurs at most five times in a month; write #1 to #5, or L")
    return f"{place} {weekday}"
