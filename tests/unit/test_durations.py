"""Durations and rates: their patterns match exactly what is accepted, and what is written."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import DURATION_PATTERN, LONGEST, exact_duration, parse_duration
from callboard.jobs.model.queue_limits import RATE_PATTERN, Rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0), ("250ms", 0.25), ("90m", 5400), ("1h05m", 3900), ("1.5h", 5400), ("1m30.5s", 90.5), ("1w", 604800),
        ("520w", 314496000), ("3650d", 315360000), ("87600h", 315360000),
    ],
)  # fmt: skip
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "1h90m",
        "30m1h",
        "1s1s",
        "1.5h30m",
        "10M",
        " 1s",
        "1s ",
        "1s\n",
        "-1s",
        "3900d",
        "1y",
        "٣s",
    ],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidInput, match="not a duration"):
        parse_duration(text)


@given(text=st.from_regex(DURATION_PATTERN, fullmatch=True))
def test_every_duration_of_the_pattern_is_accepted_and_written_back(text):
    value = parse_duration(text)
    assert timedelta(0) <= value <= LONGEST
    assert re.fullmatch(DURATION_PATTERN, exact_duration(value))
    assert parse_duration(exact_duration(value)) == value


@given(text=st.one_of(st.text(), st.from_regex(r"([0-9.]+(ms|[smhdw]|[SM]| )){0,4}", fullmatch=True)))
def test_a_text_outside_the_pattern_is_no_duration(text):
    if re.fullmatch(DURATION_PATTERN, text):
        return
    with pytest.raises(InvalidInput, match="not a duration"):
        parse_duration(text)


@given(microseconds=st.integers(0, LONGEST // timedelta.resolution))
def test_a_duration_is_written_exactly(microseconds):
    value = timedelta(microseconds=microseconds)
    assert parse_duration(exact_duration(value)) == value


@given(text=st.from_regex(RATE_PATTERN, fullmatch=True))
def test_every_rate_of_the_pattern_is_accepted_and_written_so(text):
    assert re.fullmatch(RATE_PATTERN, str(Rate.parse(text)))
