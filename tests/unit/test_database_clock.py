"""A jump of the database's clock is noticed, however slow the answers are."""

from datetime import UTC, datetime, timedelta

import pytest

from callboard.scheduler.database_clock import DatabaseClock
from tests.integration.core.factories import FakeClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STILL = timedelta(0)


@pytest.fixture
def here():
    return FakeClock()


@pytest.fixture
def clock(here):
    made = DatabaseClock(here)
    made.ask()
    assert made.told(NOON) == STILL
    return made


def answer(clock, here, at, *, after=0.0):
    """The jump that the answer shows, which takes `after` seconds."""
    clock.ask()
    here.advance(after)
    return clock.told(at)


@pytest.mark.parametrize("jump", [timedelta(hours=1), -timedelta(hours=1), timedelta(days=3653)])
def test_a_jump_is_told_once(clock, here, jump):
    here.advance(0.3)
    assert answer(clock, here, NOON + timedelta(seconds=0.3) + jump) == jump
    here.advance(0.3)
    assert answer(clock, here, NOON + timedelta(seconds=0.6) + jump) == STILL


def test_time_that_passes_on_both_sides_is_no_jump(clock, here):
    here.advance(3600)
    assert answer(clock, here, NOON + timedelta(hours=1)) == STILL


@pytest.mark.parametrize("seconds", [-0.9, 0.9])
def test_a_small_difference_is_no_jump(clock, here, seconds):
    here.advance(10)
    assert answer(clock, here, NOON + timedelta(seconds=10 + seconds)) == STILL


@pytest.mark.parametrize("told", [0, 15, 30])
def test_a_slow_answer_is_no_jump(clock, here, told):
    assert answer(clock, here, NOON + timedelta(seconds=told), after=30) == STILL
    assert answer(clock, here, NOON + timedelta(seconds=30)) == STILL


def test_a_clock_that_stands_while_time_passes_was_set_back(clock, here):
    here.advance(60)
    assert answer(clock, here, NOON) == -timedelta(minutes=1)


def test_nothing_is_known_after_it_was_forgotten(clock, here):
    clock.forget()
    assert not clock.known
    assert answer(clock, here, NOON + timedelta(days=1)) == STILL
    assert clock.known
