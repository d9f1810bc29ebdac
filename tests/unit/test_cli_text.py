"""Words for people."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from callboard.cli.console.text import ago, count, iso, one_line, span, visible

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.9, "now"),
        (1, "1 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7199, "119 min ago"),
        (7200, "2 h ago"),
        (172800, "2 d ago"),
        (-1, "in 1 s"),
        (-95, "in 95 s"),
        (-3600 * 3, "in 3 h"),
    ],
)
def test_ago_tells_how_far_an_instant_lies_from_now(seconds, text):
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_ago_of_nothing_is_nothing():
    assert ago(None, NOW) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0004, "0 ms"),
        (0.85, "850 ms"),
        (2.44, "2.4 s"),
        (12.6, "13 s"),
        (192, "3 min 12 s"),
        (90_000, "1 d 1 h"),
    ],
)
def test_span_has_the_precision_that_matters(seconds, text):
    assert span(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("text", ["0ms", "250ms", "30s", "10m", "1h30m", "1d1h1m", "1d1h1m1s", "90.5s"])
def test_exact_loses_nothing(text):
    from callboard.jobs.model.basics.durations import exact_duration, parse_duration

    assert exact_duration(parse_duration(text)) == text


def test_iso_is_utc_with_a_z():
    assert iso(datetime(2026, 11, 22, 10, tzinfo=timezone(timedelta(hours=1)))) == "2026-11-22T09:00:00Z"


def test_control_characters_are_escaped_and_lines_kept():
    assert visible("a\x1b[31mb\nc\td\x07") == "a\\x1b[31mb\nc\td\\x07"


def test_one_line_is_one_line_and_not_endless():
    assert one_line("  a\n b\r\n\tc ") == "a b\\r c"
    assert len(one_line("x" * 5000)) == 1000


def test_count_knows_one_from_many():
    assert [count(number, "job") for number in (0, 1, 12_000)] == ["0 jobs", "1 job", "12,000 jobs"]
