"""Limits as values: how rates are written, what is refused, how free places are shared between keys."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.jobs.errors import InvalidInput
from callboard.jobs.limits.sharing import Turn, shared
from callboard.jobs.model.queue_limits import LONGEST_PERIOD, MOST, Limits, Rate

periods = st.integers(1, int(LONGEST_PERIOD.total_seconds())).map(lambda seconds: timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [
        ("100/1m", 100, 60),
        ("5/s", 5, 1),
        ("10 / 90s", 10, 90),
        ("1/1D", 1, 86_400),
        ("1000000/1h30m", 1_000_000, 5_400),
    ],
)
def test_a_rate_is_read(text, amount, seconds):
    assert Rate.parse(text) == Rate(amount, timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "text",
    [
        "", "100", "100/", "/1m", "-1/1m", "0/1m", "1.5/1m", "1/0s", "1/500ms", "1/1500ms", "1/2d", "1/1x",
        "1/m/s", f"{MOST + 1}/1m", "1" * 50 + "/1m", "٣/1m", "1/" + "9" * 30 + "s",
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused_with_one_line(text):
    with pytest.raises(InvalidInput) as caught:
        Rate.parse(text)
    assert "\n" not in caught.value.message
    assert caught.value.fields


@given(st.integers(1, MOST), periods)
def test_a_rate_is_written_as_it_is_read(amount, period):
    assert Rate.parse(str(Rate(amount, period))) == Rate(amount, period)


@pytest.mark.parametrize("name", ["concurrency", "key_concurrency"])
@pytest.mark.parametrize("value", [0, -1, MOST + 1, True, 1.5, "3"])
def test_a_concurrency_out_of_bounds_is_refused(name, value):
    with pytest.raises(InvalidInput, match=name):
        Limits.read(**{name: value})


def test_a_rate_that_cannot_be_read_names_its_field():
    with pytest.raises(InvalidInput, match="key_rate: not a rate") as caught:
        Limits.read(key_rate="often")
    assert set(caught.value.fields) == {"key_rate"}


def test_limits_know_how_long_a_start_counts():
    assert not Limits().any
    assert Limits().longest_period == timedelta(0)
    both = Limits.read(concurrency=3, rate="10/1s", key_rate="5/1h")
    assert both.any
    assert (both.shortest_period, both.longest_period) == (timedelta(seconds=1), timedelta(hours=1))
    assert both.written() == {"concurrency": 3, "rate": "10/1s", "key_concurrency": None, "key_rate": "5/1h"}


def test_places_go_to_the_keys_with_the_least_under_way_and_then_in_turn():
    assert shared([Turn("a", 3, 9), Turn("b", 0, 9), Turn("c", 1, 9)], 4) == [0, 3, 1]
    assert shared([Turn("a", 0, 9), Turn("b", 0, 9), Turn("c", 0, 9)], 2) == [1, 1, 0]
    assert shared([Turn("a", 0, 1), Turn("b", 5, 2)], 10) == [1, 2]
    assert shared([Turn("a", 0, 1)], 0) == [0]
    assert shared([], 5) == []


turns = st.lists(st.builds(Turn, st.text(max_size=3), st.integers(0, 20), st.integers(0, 20)), max_size=20)


@given(turns, st.integers(0, 100))
def test_nothing_is_shared_that_is_not_there_and_nothing_is_left_that_could_be(some, places):
    got = shared(some, places)
    assert sum(got) == min(places, sum(turn.ready for turn in some))
    assert all(0 <= count <= turn.ready for turn, count in zip(some, got, strict=True))
    for turn, count in zip(some, got, strict=True):
        if count:
            # Nobody who has more waiting is left behind with less.
            assert all(
                other.busy + had + 1 >= turn.busy + count
                for other, had in zip(some, got, strict=True)
                if had < other.ready
            )
