"""Exceptions with so many causes or members that their traceback would take all memory."""

import threading
from collections.abc import Callable

import pytest

from callboard.jobs.attempts.error_text import LONGEST_TRACEBACK, error_text


def repeated_members() -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(40):
        error = ExceptionGroup("group", [error, error])
    return error


def many_members() -> BaseException:
    return ExceptionGroup("group", [ValueError("one")] * 500_000)


def many_causes() -> BaseException:
    error = ValueError("group")
    for _ in range(5_000):
        following = ValueError("group")
        following.__cause__ = error
        error = following
    return error


@pytest.mark.parametrize("make", [repeated_members, many_members, many_causes])
def test_a_traceback_of_too_many_exceptions_leaves_them_out(make: Callable[[], BaseException]) -> None:
    before = set(threading.enumerate())
    text = error_text(make())
    assert text.message.startswith("group")
    assert text.traceback.splitlines()[-1].startswith(f"{text.error_class}: group")
    assert "2,500" in "".join(text.problems)
    assert set(threading.enumerate()) <= before


def test_a_group_of_the_usual_size_is_shown_with_its_members() -> None:
    text = error_text(ExceptionGroup("group", [ValueError(f"member {n}") for n in range(10)]))
    assert "member 9" in text.traceback
    assert len(text.traceback) <= LONGEST_TRACEBACK
    assert text.problems == ()


def test_many_plain_notes_are_read_in_a_thread_of_their_own() -> None:
    error = ValueError("noted")
    error.__notes__ = ["note"] * 5_000_000
    text = error_text(error)
    assert text.message == "noted"
    assert "longer than 1 s" in "".join(text.problems)
