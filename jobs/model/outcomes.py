"""Outcomes: what a job raises or returns to choose how its attempt ends.

    Outcome        raising it and returning it do the same
    ├── Retry      try again; the attempt counts
    ├── Snooze     run again later; the attempt does not count
    ├── Cancel     end the job as cancelled
    └── Fail       end the job as failed, even if attempts are left

Any other exception is a failed attempt, and the job's RetryPolicy decides what comes next.
"""

from datetime import timedelta
from typing import ClassVar, Final

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import LONGEST, format_duration, parse_duration
from callboard.jobs.model.basics.plain_text import plain_text, readable, shortened

_LONGEST_REASON: Final = 1_000


class Outcome(Exception):
    """The base of all outcomes. `reason` is one line for people; it is cut at 1,000 characters."""

    #: The outcome's name in a job's `errors`. It never changes, even when the class is renamed or moved.
    stored_as: ClassVar[str]

    def __init__(self, reason: str = "") -> None:
        self.reason = shortened(readable(reason), _LONGEST_REASON)
        super().__init__(self.reason)


class Retry(Outcome):
    """Try again if attempts are left. Without a `delay`, the RetryPolicy decides when."""

    stored_as = "Retried"

    def __init__(self, delay: str | timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.delay = None if delay is None else _duration(delay)
        # Pickle rebuilds the exception from `args`: a job may raise it in its own process pool.
        self.args = (self.delay, self.reason)

    def __str__(self) -> str:
        return _text("retry", self.delay, self.reason)


class Snooze(Outcome):
    """Run again after `delay`. The attempt does not count."""

    stored_as = "Snoozed"

    def __init__(self, delay: str | timedelta, reason: str = "") -> None:
        super().__init__(reason)
        self.delay = _duration(delay)
        self.args = (self.delay, self.reason)

    def __str__(self) -> str:
        return _text("snooze", self.delay, self.reason)


class Cancel(Outcome):
    """End the job as cancelled."""

    stored_as = "Cancelled"


class Fail(Outcome):
    """End the job as failed, without another attempt."""

    stored_as = "Failed"


def _duration(value: str | timedelta) -> timedelta:
    if not issubclass(type(value), str | timedelta):
        raise InvalidInput(f"a delay is a timedelta or a text such as '30s', not {type(value).__name__}")
    delay = value if isinstance(value, timedelta) else parse_duration(plain_text(value))
    if not timedelta(0) <= delay <= LONGEST:
        raise InvalidInput(f"the delay {format_duration(delay)} is negative or longer than ten years")
    return delay


def _text(verb: str, delay: timedelta | None, reason: str) -> str:
    when = "" if delay is None else f" in {format_duration(delay)}"
    return f"{verb}{when}: {reason}" if reason else f"{verb}{when}"
