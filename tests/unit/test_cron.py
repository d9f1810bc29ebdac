"""The syntax of cron expressions, and the other rules of a schedule."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callboard.jobs.errors import InvalidInput
from callboard.jobs.schedules.cron import (
    cron_calendar,
    interval_calendar,
    once_calendar,
    parse_cron,
    parse_timezone,
    spec_calendar,
)
from callboard.jobs.schedules.rule import ScheduleRule

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
MINUTE = timedelta(minutes=1)


def fires_of(expr: str, count: int, zone: str = "UTC", start: datetime = START) -> list[str]:
    found = cron_calendar(expr, zone).fires(start - MINUTE, None, count)
    return [f"{fire:%Y-%m-%dT%H:%M}" for fire in found]


def dates_of(expr: str, count: int) -> list[str]:
    return [fire[:10] for fire in fires_of(expr, count)]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("@hourly", ["2026-01-01T00:00", "2026-01-01T01:00"]),
        ("@daily", ["2026-01-01T00:00", "2026-01-02T00:00"]),
        ("@midnight", ["2026-01-01T00:00", "2026-01-02T00:00"]),
        ("@weekly", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("@monthly", ["2026-01-01T00:00", "2026-02-01T00:00"]),
        ("@yearly", ["2026-01-01T00:00", "2027-01-01T00:00"]),
        ("@ANNUALLY", ["2026-01-01T00:00", "2027-01-01T00:00"]),
        ("*/25 * * * *", ["2026-01-01T00:00", "2026-01-01T00:25", "2026-01-01T00:50", "2026-01-01T01:00"]),
        ("*/60 */24 * * *", ["2026-01-01T00:00", "2026-01-02T00:00"]),
        ("50/5 3 * * *", ["2026-01-01T03:50", "2026-01-01T03:55", "2026-01-02T03:50"]),
        (
            "10-20/5,40 3 * * *",
            ["2026-01-01T03:10", "2026-01-01T03:15", "2026-01-01T03:20", "2026-01-01T03:40"],
        ),
        ("  05 \t 03  * * * ", ["2026-01-01T03:05"]),
    ],
)
def test_times_are_read(expr: str, expected: list[str]) -> None:
    assert fires_of(expr, len(expected)) == expected


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("0 0 * * 0", ["2026-01-04", "2026-01-11"]),
        ("0 0 * * 7", ["2026-01-04", "2026-01-11"]),
        ("0 0 * * Sun", ["2026-01-04", "2026-01-11"]),
        ("0 0 * * 1", ["2026-01-05", "2026-01-12"]),
        ("0 0 * * MON-fri/2", ["2026-01-02", "2026-01-05", "2026-01-07"]),
        ("0 0 * * 5-7", ["2026-01-02", "2026-01-03", "2026-01-04", "2026-01-09"]),
        ("0 0 * * sat-sun", ["2026-01-03", "2026-01-04", "2026-01-10"]),
        ("0 0 * * fri-mon", ["2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05", "2026-01-09"]),
        ("0 0 * * */7", ["2026-01-04", "2026-01-11"]),
        ("0 0 1 feb,JUN-jul *", ["2026-02-01", "2026-06-01", "2026-07-01", "2027-02-01"]),
        ("0 0 1 10/2 *", ["2026-10-01", "2026-12-01", "2027-10-01"]),
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 15,l 2 *", ["2026-02-15", "2026-02-28", "2027-02-15"]),
        ("0 0 L 2 *", ["2026-02-28", "2027-02-28", "2028-02-29"]),
        ("0 0 * * 5#3", ["2026-01-16", "2026-02-20", "2026-03-20"]),
        ("0 0 * * fri#5", ["2026-01-30", "2026-05-29", "2026-07-31"]),
        ("0 0 * * 5L", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * monL,0#1", ["2026-01-04", "2026-01-26", "2026-02-01"]),
        ("0 0 * * 7#1,2", ["2026-01-04", "2026-01-06", "2026-01-13"]),
        # both day fields restricted: either one fires
        ("0 0 13 * 5", ["2026-01-02", "2026-01-09", "2026-01-13", "2026-01-16"]),
        ("0 0 13 * 5#3", ["2026-01-13", "2026-01-16", "2026-02-13", "2026-02-20"]),
        ("0 0 L * 1#1", ["2026-01-05", "2026-01-31", "2026-02-02"]),
        ("0 0 30 2 1", ["2026-02-02", "2026-02-09"]),
        # a day field that begins with * restricts nothing by itself: both have to match
        ("0 0 */10 * 5", ["2026-05-01", "2026-07-31", "2026-08-21"]),
        ("0 0 1-7 * */7", ["2026-01-04", "2026-02-01", "2026-03-01"]),
        ("0 0 */2 * 5#3", ["2026-04-17", "2026-05-15", "2026-06-19"]),
        ("0 0 */30,L * 5L", ["2026-07-31", "2027-04-30", "2027-12-31"]),
        # rare dates are found
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29"]),
        ("0 0 29 2 */7", ["2032-02-29", "2060-02-29"]),
        ("0 0 * 2 1#5", ["2044-02-29", "2072-02-29"]),
    ],
)
def test_days_are_read(expr: str, expected: list[str]) -> None:
    assert dates_of(expr, len(expected)) == expected


@pytest.mark.parametrize(
    ("expr", "named"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields, not 6"),
        ("@reboot", "@hourly"),
        ("@daily 5", "@hourly"),
        ("60 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("٣ * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("*/90 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("*-5 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* 22-2 * * *", "22-23,0-2"),
        ("* mon * * *", "hour"),
        ("* * 0 * *", "day-of-month"),
        ("* * 32 * *", "day-of-month"),
        ("* * L-3 * *", "day-of-month"),
        ("* * 15W * *", "day-of-month"),
        ("* * ? * *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * january *", "jan feb"),
        ("* * * * 8", "day-of-week"),
        ("* * * * monday", "sun mon"),
        ("* * * * L", "5L"),
        ("* * * * 5#6", "#1 to #5"),
        ("* * * * 5#0", "#1 to #5"),
        ("* * * * xyz#1", "day-of-week"),
        ("* * * * 1-5#2", "day-of-week"),
        ("0 0 30 2 *", "never fire"),
        ("0 0 31 4,6,9,11 *", "never fire"),
        ("0 0 */31 * 5#2", "never fire"),
        ("0 0 31 2 */2", "never fire"),
        ("0 " + "0," * 200 + "0 * * *", "256"),
    ],
)
def test_a_bad_expression_is_refused_with_its_field_and_the_mend(expr: str, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_cron(expr)
    assert named in caught.value.message
    assert "\n" not in caught.value.message
    assert "cron" in caught.value.fields


def test_equal_expressions_are_equal_values() -> None:
    assert parse_cron("0  0 * * *") == parse_cron("0 0 * * *")
    assert parse_cron("0 0 * * *").expression == "0 0 * * *"
    assert hash(cron_calendar("@daily", "UTC")) == hash(cron_calendar("@daily", "UTC"))


# Zones and rows


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "../etc/passwd", "America", "localtime", "x" * 65, "europe/berlin"]
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="time zone") as caught:
        parse_timezone(name)
    assert "timezone" in caught.value.fields


def test_an_unknown_zone_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="did you mean Europe/Berlin"):
        parse_timezone("europe/berlin")


def spec(**changes: Any) -> ScheduleRule:
    row = {"cron": None, "every": None, "at": None, "timezone": "UTC", "dst_gap": "shift", "anchor": START}
    return ScheduleRule(**{**row, **changes})


def test_a_row_becomes_its_calendar() -> None:
    berlin = "Europe/Berlin"
    assert spec_calendar(spec(cron="@daily", timezone=berlin, dst_gap="skip")) == cron_calendar(
        "@daily", berlin, "skip"
    )
    assert spec_calendar(spec(every=MINUTE)) == interval_calendar(MINUTE, START)
    assert spec_calendar(spec(at=START)) == once_calendar(START)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (spec(), "exactly one"),
        (spec(cron="@daily", every=MINUTE), "exactly one"),
        (spec(cron="@daily", dst_gap="jump"), "shift or skip"),
        (spec(every=MINUTE, timezone="Nowhere"), "unknown time zone"),
        (spec(at=START.replace(tzinfo=None)), "offset"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(row: ScheduleRule, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        spec_calendar(row)
