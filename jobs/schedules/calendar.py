"""Calendars: the times at which a schedule fires. Pure arithmetic, without I/O.

All instants are timezone-aware and in UTC. A calendar is an immutable value. A wall time is a local time
without a UTC offset, as a clock on the wall shows it. When a zone changes its offset (daylight saving), a
wall time can occur twice or never. The cron expression decides what happens then:

                        fixed times (`30 2 * * *`)               times that follow the clock (`*/10 2 * * *`)
time occurs twice       fires once, at the first occurrence      fires at both occurrences
time does not exist     shift: fires once, when the gap ends     does not fire
                        skip: does not fire
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import LONGEST

DstGap = Literal["shift", "skip"]

#: How far `next_after` looks ahead. The rarest cron date, a 29 February on one weekday, is at most 40 years
#: away.
HORIZON: Final = timedelta(days=60 * 366)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_TICK: Final = timedelta.resolution
_ZONE_NAME_LENGTH: Final = 64


class Calendar(ABC):
    """The instants at which a schedule fires."""

    __slots__ = ()

    @abstractmethod
    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first fire strictly after an instant; None when there is none within HORIZON."""

    def fires(self, start: datetime, end: datetime | None, limit: int) -> Iterator[datetime]:
        """Yield at most `limit` fires after `start`, up to and including `end` (None: no end), in order.

        Two windows that meet, (a, b] and (b, c], together have every fire once.
        """
        last = None if end is None else as_utc(end, "end")
        instant = start
        for _ in range(limit):
            fire = self.next_after(instant)
            if fire is None or (last is not None and fire > last):
                return
            yield fire
            instant = fire


@dataclass(frozen=True, slots=True)
class IntervalCalendar(Calendar):
    """Fires at equal intervals, before and after the anchor. Offset changes of time zones have no effect.

    The anchor may be in the future: the database's clock may have been set back since the schedule was made.
    """

    every: timedelta
    anchor: datetime

    def next_after(self, instant: datetime) -> datetime | None:
        moment = as_utc(instant, "instant")
        rest = (moment - self.anchor) % self.every
        return moment + (self.every - rest) if moment < _LAST else None


@dataclass(frozen=True, slots=True)
class OnceCalendar(Calendar):
    """Fires at one instant."""

    at: datetime

    def next_after(self, instant: datetime) -> datetime | None:
        return self.at if self.at > as_utc(instant, "instant") else None


class WallTimes(Protocol):
    """The wall times of a cron expression: a sequence without a time zone."""

    @property
    def follows_clock(self) -> bool:
        """Whether the minute or the hour field starts with `*`."""
        ...

    def next_wall(self, after: datetime, limit: datetime) -> datetime | None:
        """Return the first wall time after `after`; None when it is later than `limit`. All are naive."""
        ...


@dataclass(frozen=True, slots=True)
class WallCalendar(Calendar):
    """Fires at certain wall times of a time zone."""

    walls: WallTimes
    zone: ZoneInfo
    dst_gap: DstGap = "shift"

    def next_after(self, instant: datetime) -> datetime | None:
        moment = max(as_utc(instant, "instant"), _FIRST - _SECOND)
        if moment >= _LAST:
            return None
        local = moment.astimezone(self.zone)
        if not self.walls.follows_clock:
            return self._next_in_order(moment, self._first_pass_end(local) if local.fold else _naive(local))
        in_order, repeated = self._next_in_order(moment, _naive(local)), self._next_repeated(moment)
        return min((fire for fire in (in_order, repeated) if fire is not None), default=None)

    def _next_in_order(self, moment: datetime, wall: datetime) -> datetime | None:
        """Return the first fire after `moment` that belongs to a wall time after `wall`."""
        limit = _naive(moment + HORIZON)
        while (following := self.walls.next_wall(wall, limit)) is not None:
            wall = following
            first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            if first > second:  # this wall time does not exist in the zone
                change = _change(self.zone, second, first)
                if self.dst_gap == "shift" and not self.walls.follows_clock:
                    return change
                wall = _naive(change.astimezone(self.zone)) - _TICK
            elif first > moment:
                return first
            elif second > moment:
                return second
        return None

    def _next_repeated(self, moment: datetime) -> datetime | None:
        """Return the next fire at the second occurrence of a wall time that has passed once already.

        None unless the clock is set back within 24 hours after `moment`, to the wall time of `moment` or
        earlier.
        """
        tomorrow = moment + _DAY
        wall, later = _naive(moment.astimezone(self.zone)), _naive(tomorrow.astimezone(self.zone))
        if later - wall >= _DAY:
            return None
        change = _change(self.zone, moment, tomorrow)
        local = change.astimezone(self.zone)
        again = self.walls.next_wall(_naive(local) - _TICK, wall)
        return None if again is None else change + (again - _naive(local))

    def _first_pass_end(self, local: datetime) -> datetime:
        """Return the wall time just before the end of the first pass, for a time in the second pass."""
        second = local.astimezone(UTC)
        first = local.replace(fold=0).astimezone(UTC)
        change = _change(self.zone, first, second)
        return _naive(local) + (change - first) - _TICK


def interval_calendar(every: timedelta, anchor: datetime) -> IntervalCalendar:
    """Make a calendar of equal intervals, counted from an aware anchor.

    Raises InvalidInput unless `every` is between one second and ten years.
    """
    if not _SECOND <= every <= LONGEST:
        raise InvalidInput(
            "an interval is between 1s and ten years; write it as 30s, 10m, 1h30m or 2d",
            fields={"every": "between 1s and ten years"},
        )
    return IntervalCalendar(every, as_utc(anchor, "anchor"))


def once_calendar(at: datetime) -> OnceCalendar:
    """Make a calendar with one fire, at an aware instant."""
    return OnceCalendar(as_utc(at, "at"))


def parse_gap(text: str) -> DstGap:
    """Parse `shift` or `skip`. Raises InvalidInput for any other text."""
    if text == "shift":
        return "shift"
    if text == "skip":
        return "skip"
    raise InvalidInput(
        f"{text[:40]!r} is not a value of dst_gap: write shift or skip", fields={"dst_gap": "shift or skip"}
    )


@lru_cache(maxsize=1024)
def parse_timezone(name: str) -> ZoneInfo:
    """Parse an IANA zone name such as `Europe/Berlin`. Raises InvalidInput with the closest name."""
    known = _zone_names()
    if name in known:
        return ZoneInfo(name)
    if len(name) > _ZONE_NAME_LENGTH:
        raise InvalidInput(
            f"a time zone name has at most {_ZONE_NAME_LENGTH} characters; write it as Europe/Berlin",
            fields={"timezone": "too long"},
        )
    folded = {zone.casefold(): zone for zone in known}
    near = get_close_matches(name.casefold(), folded, n=1)
    hint = f"did you mean {folded[near[0]]}?" if near else "write an IANA name such as Europe/Berlin or UTC"
    raise InvalidInput(f"unknown time zone {name!r}: {hint}", fields={"timezone": "unknown"})


def jitter(schedule_id: UUID, nominal: datetime, bound: timedelta) -> timedelta:
    """Return how much later than its nominal time a tick runs: in [0, bound).

    The same schedule and nominal time always give the same delay, on every machine.
    """
    if bound < timedelta(0):
        raise InvalidInput("a jitter cannot be negative", fields={"jitter": "negative"})
    ticks = (as_utc(nominal, "nominal") - _FIRST) // _TICK
    digest = blake2b(schedule_id.bytes + ticks.to_bytes(8, "big", signed=True), digest_size=8).digest()
    return _TICK * ((int.from_bytes(digest, "big") * (bound // _TICK)) >> 64)


def as_utc(instant: datetime, what: str) -> datetime:
    """Return the instant in UTC. Raises InvalidInput, which names `what`, for a time without a UTC offset."""
    if instant.tzinfo is UTC:
        return instant
    if instant.utcoffset() is None:
        raise InvalidInput(
            f"the time {what} has no UTC offset; write it as 2026-10-25T00:30:00Z",
            fields={what: "no UTC offset"},
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"the time {what} is out of range", fields={what: "out of range"}) from None


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # The meaning of these two names depends on the machine.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the time of an offset change between `before` and `after`, to the second.

    It is the first second at which `zone` has the offset that it has at `after`.
    """
    new = after.astimezone(zone).utcoffset()
    start = _FIRST
    low, high = (before - start) // _SECOND, (after - start) // _SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if (start + middle * _SECOND).astimezone(zone).utcoffset() == new:
            high = middle
        else:
            low = middle
    return start + high * _SECOND


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None, fold=0)
