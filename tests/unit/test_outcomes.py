"""Outcomes that a job can raise or return."""

import pickle
from datetime import timedelta

import pytest

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.outcomes import Cancel, Fail, Outcome, Retry, Snooze


def test_an_outcome_may_be_raised_and_carries_what_it_was_given():
    with pytest.raises(Outcome) as caught:
        raise Retry("30s", "the bank is closed")
    assert isinstance(caught.value, Retry)
    assert caught.value.delay == timedelta(seconds=30)
    assert caught.value.reason == "the bank is closed"


def test_an_outcome_may_be_returned_as_a_value():
    assert Snooze("1h30m").delay == timedelta(minutes=90)
    assert Cancel("superseded").reason == "superseded"
    assert Fail("no such account").reason == "no such account"


def test_a_retry_without_a_delay_leaves_it_to_the_policy():
    assert Retry().delay is None
    assert Retry(delay=timedelta(0)).delay == timedelta(0)
    assert Retry(reason="later").reason == "later"


@pytest.mark.parametrize(
    "delay", ["", "soon", "-5s", timedelta(seconds=-1), timedelta(days=4000), 30, 1.5, b"30s"]
)
@pytest.mark.parametrize("kind", [Retry, Snooze])
def test_a_delay_that_is_none_is_refused(kind, delay):
    with pytest.raises(InvalidInput):
        kind(delay)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (Retry(), "retry"),
        (Retry("30s", "busy"), "retry in 30s: busy"),
        (Snooze("2h"), "snooze in 2h"),
        (Cancel("late"), "late"),
        (Fail(), ""),
    ],
)
def test_an_outcome_reads_as_one_line(outcome, text):
    assert str(outcome) == text


@pytest.mark.parametrize(
    "outcome", [Retry("30s", "busy"), Retry(), Snooze("2h", "dawn"), Cancel("late"), Fail("no")]
)
def test_an_outcome_survives_another_process(outcome):
    copy = pickle.loads(pickle.dumps(outcome))
    assert type(copy) is type(outcome)
    assert vars(copy) == vars(outcome)
    assert str(copy) == str(outcome)


def test_a_reason_is_bounded_and_may_be_an_exception():
    assert len(Fail("x" * 5_000).reason) == 1_000
    assert Fail(ValueError("no such account")).reason == "no such account"  # type: ignore[arg-type]
