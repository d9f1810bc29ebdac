"""Calendars: daylight saving, intervals, single instants, and what is true of every calendar."""

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import InvalidInput
from callboard.jobs.schedules.cron import (
    Calendar,
    DstGap,
    cron_calendar,
    interval_calendar,
    jitter,
    once_calendar,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "dst.json").read_text())["cases"]
START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['tz']} {case['date']} {case['cron']}")
def test_published_vectors_hold(case: dict[str, Any]) -> None:
    zone = ZoneInfo(case["tz"])
    midnight = datetime.fromisoformat(case["date"]).replace(tzinfo=zone)
    end = (midnight + timedelta(days=1)).astimezone(UTC) - timedelta(microseconds=1)
    start = midnight.astimezone(UTC) - timedelta(microseconds=1)
    found = list(cron_calendar(case["cron"], case["tz"]).fires(start, end, 100))
    assert [f"{fire:%Y-%m-%dT%H:%M:%SZ}" for fire in found] == case["fires"]


@pytest.mark.parametrize(
    ("expr", "zone", "gap", "window", "expected"),
    [
        # several fixed times in one gap are one fire, and so is one that meets a regular fire
        ("0,15,30 2 * * *", "America/New_York", "shift", "2027-03-14T05:00Z/2027-03-14T12:00Z", ["07:00"]),
        ("0 2,3 * * *", "America/New_York", "shift", "2027-03-14T05:00Z/2027-03-14T12:00Z", ["07:00"]),
        ("0 2,3 * * *", "America/New_York", "skip", "2027-03-14T05:00Z/2027-03-14T12:00Z", ["07:00"]),
        ("30 2 * * *", "America/New_York", "skip", "2027-03-14T05:00Z/2027-03-15T05:00Z", []),
        # the clock is followed: both passes of an overlap, nothing in a gap
        ("*/30 1 * * *", "America/New_York", "shift", "2026-11-01T04:00Z/2026-11-01T12:00Z",
         ["05:00", "05:30", "06:00", "06:30"]),
        ("30 * * * *", "America/New_York", "shift", "2026-11-01T04:40Z/2026-11-01T07:40Z",
         ["05:30", "06:30", "07:30"]),
        ("0 * * * *", "America/New_York", "shift", "2027-03-14T05:30Z/2027-03-14T08:00Z",
         ["06:00", "07:00", "08:00"]),
        # a fixed list of every minute is still a list of fixed times
        ("0-59 1 * * *", "America/New_York", "shift", "2026-11-01T05:58Z/2026-11-01T12:00Z", ["05:59"]),
        # half an hour of daylight saving
        ("45 1 * * *", "Australia/Lord_Howe", "shift", "2026-04-04T12:00Z/2026-04-04T20:00Z", ["14:45"]),
        ("15 2 * * *", "Australia/Lord_Howe", "shift", "2026-10-03T12:00Z/2026-10-03T20:00Z", ["15:30"]),
        # midnight itself is missing
        ("0 0 * * *", "Africa/Cairo", "shift", "2026-04-23T12:00Z/2026-04-24T12:00Z", ["22:00"]),
        # a whole day is missing, and its fire meets the next day's
        ("0 0 * * *", "Pacific/Apia", "shift", "2011-12-30T00:00Z/2011-12-31T09:00Z", ["10:00"]),
    ],
)  # fmt: skip
def test_wall_times_become_instants(
    expr: str, zone: str, gap: DstGap, window: str, expected: list[str]
) -> None:
    start, end = map(at, window.split("/"))
    found = cron_calendar(expr, zone, gap).fires(start, end, 100)
    assert [f"{fire:%H:%M}" for fire in found] == expected


def test_a_job_that_follows_the_clock_sees_the_second_pass_from_anywhere_in_the_first() -> None:
    calendar = cron_calendar("*/30 1 * * *", "America/New_York")
    assert calendar.next_after(at("2026-11-01T05:45Z")) == at("2026-11-01T06:00Z")
    assert calendar.next_after(at("2026-11-01T05:10Z")) == at("2026-11-01T05:30Z")
    assert calendar.next_after(at("2026-11-01T06:30Z")) == at("2026-11-02T06:00Z")


def test_a_fixed_time_that_passed_does_not_come_again_in_the_second_pass() -> None:
    calendar = cron_calendar("30 1 * * *", "America/New_York")
    for minute in ("05:30", "05:59", "06:00", "06:15", "06:30", "06:59"):
        assert calendar.next_after(at(f"2026-11-01T{minute}Z")) == at("2026-11-02T06:30Z")


# Intervals, instants, ends


def test_an_interval_fires_at_its_anchor_and_every_step_before_and_after_it() -> None:
    anchor = at("2026-03-29T00:05:00.250Z")
    calendar = interval_calendar(timedelta(minutes=10), anchor)
    assert calendar.next_after(anchor - timedelta(minutes=1)) == anchor
    assert calendar.next_after(anchor - timedelta(minutes=25)) == anchor - timedelta(minutes=20)
    assert calendar.next_after(anchor) == anchor + timedelta(minutes=10)
    assert calendar.next_after(anchor + timedelta(minutes=19)) == anchor + timedelta(minutes=20)


@pytest.mark.parametrize(
    "every", [timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=999), timedelta(36600)]
)
def test_an_interval_out_of_bounds_is_refused(every: timedelta) -> None:
    with pytest.raises(InvalidInput, match="between 1s and ten years"):
        interval_calendar(every, START)


def test_an_instant_fires_once() -> None:
    calendar = once_calendar(datetime.fromisoformat("2026-05-01T10:00:00+02:00"))
    assert list(calendar.fires(START, None, 5)) == [at("2026-05-01T08:00Z")]
    assert calendar.next_after(at("2026-05-01T08:00Z")) is None


@pytest.mark.parametrize(
    "calendar",
    [cron_calendar("@daily", "Asia/Tokyo"), interval_calendar(MINUTE, START), once_calendar(START)],
    ids=["cron", "interval", "once"],
)
def test_the_ends_of_time_are_answered(calendar: Calendar) -> None:
    assert calendar.next_after(datetime.max.replace(tzinfo=UTC)) is None
    assert calendar.next_after(datetime.min.replace(tzinfo=UTC)) is not None
    with pytest.raises(InvalidInput, match="offset"):
        calendar.next_after(START.replace(tzinfo=None))


def test_an_expression_that_lies_in_every_years_gap_ends_with_nothing() -> None:
    assert cron_calendar("30 2 * 3 0#2", "America/New_York", "skip").next_after(START) is None


def test_jitter_is_the_same_every_time_and_below_its_bound() -> None:
    schedule, bound = UUID(int=7), timedelta(seconds=30)
    delays = [jitter(schedule, START + n * MINUTE, bound) for n in range(200)]
    assert delays == [jitter(schedule, START + n * MINUTE, bound) for n in range(200)]
    assert all(timedelta(0) <= delay < bound for delay in delays)
    assert min(delays) < timedelta(seconds=3)
    assert max(delays) > timedelta(seconds=27)
    assert jitter(UUID(int=8), START, bound) != jitter(schedule, START, bound)
    assert jitter(schedule, START, timedelta(0)) == timedelta(0)
    with pytest.raises(InvalidInput, match="negative"):
        jitter(schedule, START, -MINUTE)


# The laws, against a walk over every minute

WINDOWS = [
    ("UTC", "2026-02-28T18:00Z"),
    ("America/New_York", "2026-11-01T01:00Z"),
    ("America/New_York", "2027-03-14T02:00Z"),
    ("Europe/Berlin", "2026-10-24T20:00Z"),
    ("Europe/Berlin", "2027-03-27T20:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T10:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T10:00Z"),
    ("Asia/Kathmandu", "2026-10-31T14:00Z"),
    ("Africa/Casablanca", "2026-02-14T21:00Z"),
    ("Africa/Casablanca", "2026-03-21T21:00Z"),
]
WINDOW_MINUTES = 720


@lru_cache
def clock(zone: str, start: str) -> list[tuple[datetime, datetime]]:
    """Every minute of a window (and one before), and what the clock in the zone shows then."""
    minutes = [at(start) + n * MINUTE for n in range(-1, WINDOW_MINUTES)]
    return [(minute, minute.astimezone(ZoneInfo(zone))) for minute in minutes]


def walk(zone: str, start: str, fields: list[tuple[str, set[int]]], gap: str) -> list[datetime]:
    minutes, hours, days, months, weekdays = (values for _, values in fields)
    stars = [text.startswith("*") for text, _ in fields]
    follows = stars[0] or stars[1]

    def matches(wall: datetime) -> bool:
        by_day, by_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        day = (by_day and by_weekday) if stars[2] or stars[4] else (by_day or by_weekday)
        return day and wall.minute in minutes and wall.hour in hours and wall.month in months

    fires = []
    for (_, before), (minute, local) in pairwise(clock(zone, start)):
        shown, last = local.replace(tzinfo=None), before.replace(tzinfo=None)
        jumped = (last + n * MINUTE for n in range(1, (shown - last) // MINUTE))
        regular = matches(shown) and (follows or local.fold == 0)
        shifted = not follows and gap == "shift" and any(matches(wall) for wall in jumped)
        if regular or shifted:
            fires.append(minute)
    return fires


@st.composite
def cron_field(draw: st.DrawFn, low: int, high: int, likely: tuple[int, ...]) -> tuple[str, set[int]]:
    whole = set(range(low, high + 1))
    kind = draw(st.sampled_from(["*", "*/n", "list", "a-b", "a-b/n"]))
    step = draw(st.integers(1, min(high - low, 20)))
    if kind == "*":
        return "*", whole
    if kind == "*/n":
        return f"*/{step}", set(range(low, high + 1, step))
    if kind == "list":
        values = draw(st.lists(st.sampled_from(likely) | st.integers(low, high), min_size=1, max_size=4))
        return ",".join(map(str, values)), set(values)
    first, last = sorted((draw(st.sampled_from(likely)), draw(st.integers(low, high))))
    if kind == "a-b":
        return f"{first}-{last}", set(range(first, last + 1))
    return f"{first}-{last}/{step}", set(range(first, last + 1, step))


FIELDS = st.tuples(
    cron_field(0, 59, (0, 15, 30, 45)),
    cron_field(0, 23, (0, 1, 2, 3)),
    st.just(("*", set(range(1, 32)))) | cron_field(1, 31, (1, 14, 15, 22, 25)),
    st.just(("*", set(range(1, 13)))) | cron_field(1, 12, (2, 3, 4, 10, 11)),
    st.just(("*", set(range(7)))) | cron_field(0, 6, (0, 6)),
).map(list)


@settings(max_examples=150, deadline=None)
@given(FIELDS, st.sampled_from(WINDOWS), st.sampled_from(["shift", "skip"]), st.data())
def test_every_fire_is_found_by_a_walk_over_the_minutes_and_no_other(
    fields: list[tuple[str, set[int]]], window: tuple[str, str], gap: DstGap, data: st.DataObject
) -> None:
    zone, start = window
    try:
        calendar = cron_calendar(" ".join(text for text, _ in fields), zone, gap)
    except InvalidInput as refused:
        assert "never fire" in refused.message  # noqa: PT017 - a date that no year has was drawn
        return
    walked = walk(zone, start, fields, gap)
    first, last = at(start), at(start) + (WINDOW_MINUTES - 1) * MINUTE

    assert list(calendar.fires(first - MINUTE / 2, last, WINDOW_MINUTES)) == walked
    # from any instant, not only from fire to fire
    for _ in range(5):
        seconds = data.draw(st.integers(0, WINDOW_MINUTES * 60 - 61))
        instant = first + timedelta(seconds=seconds)
        found = calendar.next_after(instant)
        expected = next((fire for fire in walked if fire > instant), None)
        assert found == expected or (expected is None and (found is None or found > last))


INSTANTS = st.datetimes(datetime(1960, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
CALENDARS = st.one_of(
    st.builds(
        cron_calendar,
        st.sampled_from(
            [
                "* * * * *",
                "30 2 * * *",
                "*/7 1-3 * * *",
                "0 0 29 2 *",
                "15 2 L * 0#1",
                "0 2 13 3 5L",
                "59 23 31 12 *",
            ]
        ),
        st.sampled_from([zone for zone, _ in WINDOWS]),
        st.sampled_from(["shift", "skip"]),
    ),
    st.builds(interval_calendar, st.timedeltas(timedelta(seconds=1), timedelta(days=400)), INSTANTS),
    st.builds(once_calendar, INSTANTS),
)


@settings(max_examples=100, deadline=None)
@given(CALENDARS, INSTANTS)
def test_fires_only_go_forward_and_are_those_of_next_after(calendar: Calendar, start: datetime) -> None:
    walked: list[datetime] = []
    fire = calendar.next_after(start)
    while fire is not None and len(walked) < 6:
        walked.append(fire)
        fire = calendar.next_after(fire)
    assert all(earlier < later for earlier, later in pairwise([start, *walked]))
    assert all(fire.utcoffset() == timedelta(0) for fire in walked)
    assert list(calendar.fires(start, None, 6)) == walked
    if walked:
        assert list(calendar.fires(start, walked[-1], 100)) == walked
        assert list(calendar.fires(start, walked[-1] - timedelta(microseconds=1), 100)) == walked[:-1]
