"""Calendars: when does a schedule fire next? Pure arithmetic; instants are aware, in UTC, in and out.

A calendar is a value. `next_after` is strictly after its argument, never loops for ever and answers None when
nothing comes within HORIZON. A wall time (what the clock on the wall shows) becomes instants by one rule:

                     fixed times (`30 2 * * *`)                the clock is followed (`*/10 2 * * *`)
clock set back       once, at the first occurrence             at both passes
clock set forward    once, at the first instant that exists    not at all
                     (shift) or not at all (skip)
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
from callboard.jobs.model.durations import LONGEST

DstGap = Literal["shift", "skip"]

#: The rarest cron date, a 29 February on a given weekday, is at most 40 years away.
HORIZON: Final = timedelta(days=60 * 366)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_JUST: Final = timedelta.resolution
_ZONE_NAME_LENGTH: Final = 64


class Calendar(ABC):
    """The instants at which a schedule fires."""

    __slots__ = ()

    @abstractmethod
    def next_after(self, instant: datetime) -> datetime | None:
        """The first fire strictly after an aware instant; None when there is none within HORIZON."""

    def fires(self, start: datetime, end: datetime | None, limit: int) -> Iterator[datetime]:
        """The fires after `start` up to and including `end` (None: no end), in order, `limit` at most.

        Windows that share a border neither lose a fire nor repeat one.
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
    """Fires at the anchor and every `every` from there on; clocks that change do not touch it."""

    every: timedelta
    anchor: datetime

    def next_after(self, instant: datetime) -> datetime | None:
        moment = as_utc(instant, "instant")
        if moment < self.anchor:
            return self.anchor
        rest = (moment - self.anchor) % self.every
        return moment - rest + self.every if moment < _LAST else None


@dataclass(frozen=True, slots=True)
class OnceCalendar(Calendar):
    """Fires at one instant."""

    at: datetime

    def next_after(self, instant: datetime) -> datetime | None:
        return self.at if self.at > as_utc(instant, "instant") else None


class WallTimes(Protocol):
    """What a cron expression says: an endless row of wall times, without a zone."""

    @property
    def follows_clock(self) -> bool:
        """Whether the minute or hour field begins with `*`."""
        ...

    def next_wall(self, after: datetime, limit: datetime) -> datetime | None:
        """The first wall time strictly after `after`; None when it would lie behind `limit`. All naive."""
        ...


@dataclass(frozen=True, slots=True)
class WallCalendar(Calendar):
    """Fires when the clock on the wall of a zone shows certain times."""

    walls: WallTimes
    zone: ZoneInfo
    dst_gap: DstGap = "shift"

    def next_after(self, instant: datetime) -> datetime | None:
        moment = max(as_utc(instant, "instant"), _FIRST - _SECOND)
        if moment >= _LAST:
            return None
        local = moment.astimezone(self.zone)
        if not self.walls.follows_clock:
            return self._onward(moment, self._first_pass_end(local) if local.fold else _naive(local))
        onward, again = self._onward(moment, _naive(local)), self._second_pass(moment)
        return min((fire for fire in (onward, again) if fire is not None), default=None)

    def _onward(self, moment: datetime, wall: datetime) -> datetime | None:
        """The first fire after `moment` that comes of a wall time after `wall`."""
        limit = _naive(moment + HORIZON)
        while (following := self.walls.next_wall(wall, limit)) is not None:
            wall = following
            first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            if first > second:  # the clock jumps over this wall time
                change = _change(self.zone, second, first)
                if self.dst_gap == "shift" and not self.walls.follows_clock:
                    return change
                wall = _naive(change.astimezone(self.zone)) - _JUST
            elif first > moment:
                return first
            elif second > moment:
                return second
        return None

    def _second_pass(self, moment: datetime) -> datetime | None:
        """The first fire at a wall time that the clock shows now or has shown and is about to show again."""
        tomorrow = moment + _DAY
        wall, later = _naive(moment.astimezone(self.zone)), _naive(tomorrow.astimezone(self.zone))
        if later - wall >= _DAY:
            return None
        change = _change(self.zone, moment, tomorrow)
        local = change.astimezone(self.zone)
        again = self.walls.next_wall(_naive(local) - _JUST, wall)
        return None if again is None else change + (again - _naive(local))

    def _first_pass_end(self, local: datetime) -> datetime:
        """For a time in the second pass of an overlap: just before the wall time at which the first ended."""
        second = local.astimezone(UTC)
        first = local.replace(fold=0).astimezone(UTC)
        change = _change(self.zone, first, second)
        return _naive(local) + (change - first) - _JUST


def interval_calendar(every: timedelta, anchor: datetime) -> IntervalCalendar:
    """A calendar of equal steps from an aware anchor; `every` is one second to ten years."""
    if not _SECOND <= every <= LONGEST:
        raise InvalidInput(
            "an interval is between 1s and ten years; write it as 30s, 10m, 1h30m or 2d",
            fields={"every": "between 1s and ten years"},
        )
    return IntervalCalendar(every, as_utc(anchor, "anchor"))


def once_calendar(at: datetime) -> OnceCalendar:
    """A calendar of one aware instant."""
    return OnceCalendar(as_utc(at, "at"))


def parse_gap(text: str) -> DstGap:
    """Read `shift` or `skip`; raises InvalidInput."""
    if text == "shift":
        return "shift"
    if text == "skip":
        return "skip"
    raise InvalidInput(
        f"{text[:40]!r} is no rule for a gap: dst_gap is shift or skip", fields={"dst_gap": "shift or skip"}
    )


@lru_cache(maxsize=1024)
def parse_timezone(name: str) -> ZoneInfo:
    """Read an IANA zone name such as `Europe/Berlin`; raises InvalidInput that offers the nearest one."""
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
    mend = f"did you mean {folded[near[0]]}?" if near else "write an IANA name such as Europe/Berlin or UTC"
    raise InvalidInput(f"unknown time zone {name!r}: {mend}", fields={"timezone": "unknown"})


def jitter(schedule_id: UUID, nominal: datetime, bound: timedelta) -> timedelta:
    """How much later than nominal this tick runs: in [0, bound), the same on every machine and at every try."""
    if bound < timedelta(0):
        raise InvalidInput("a jitter cannot be negative", fields={"jitter": "negative"})
    ticks = (as_utc(nominal, "nominal") - _FIRST) // _JUST
    digest = blake2b(schedule_id.bytes + ticks.to_bytes(8, "big", signed=True), digest_size=8).digest()
    return _JUST * ((int.from_bytes(digest, "big") * (bound // _JUST)) >> 64)


def as_utc(instant: datetime, what: str) -> datetime:
    """The same instant in UTC; raises InvalidInput for a time that does not say its offset."""
    if instant.tzinfo is UTC:
        return instant
    if instant.utcoffset() is None:
        raise InvalidInput(
            f"the time {what} lacks its offset from UTC; write it as 2026-10-25T00:30:00Z",
            fields={what: "no offset from UTC"},
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"the time {what} lies outside the calendar", fields={what: "too far"}) from None


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # what these two mean depends on the machine
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first instant, to the second, at which `zone` has the offset that it has at `after`."""
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
