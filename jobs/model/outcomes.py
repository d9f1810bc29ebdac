"""What an attempt can end in, as values.

    Outcome            what a job says instead of a result, raised or returned alike
    ├── Retry          not now: try again, as an attempt that counts
    ├── Snooze         not yet: come back later, as if this attempt had not been
    ├── Cancel         no longer wanted: end as cancelled
    └── Fail           never: end as failed, whatever attempts are left

Any other exception is a failed attempt, and the job's RetryPolicy decides what follows.
"""

from datetime import timedelta
from typing import ClassVar, Final

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.durations import LONGEST, format_duration, parse_duration

_LONGEST_REASON: Final = 1_000


class Outcome(Exception):
    """What a job says of its own attempt. `reason` is one line for people, cut at 1,000 characters."""

    #: The outcome's name in a job's `errors`. It never changes, even when the class is renamed or moved.
    stored_as: ClassVar[str]

    def __init__(self, reason: str = "") -> None:
        self.reason = str(reason)[:_LONGEST_REASON]
        super().__init__(self.reason)


class Retry(Outcome):
    """Try again, within the attempts that are left; after `delay` when it is given, else as the policy says."""

    stored_as = "Retried"

    def __init__(self, delay: str | timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.delay = None if delay is None else _duration(delay)
        # What pickling rebuilds it from; a job may raise it in a process pool of its own.
        self.args = (self.delay, self.reason)

    def __str__(self) -> str:
        return _text("retry", self.delay, self.reason)


class Snooze(Outcome):
    """Run again after `delay`; the attempt is given back."""

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
    """End the job as failed; it is not tried again."""

    stored_as = "Failed"


def _duration(value: str | timedelta) -> timedelta:
    if not isinstance(value, str | timedelta):
        raise InvalidInput(f"a delay is a timedelta or a text such as '30s', not {type(value).__name__}")
    delay = parse_duration(value) if isinstance(value, str) else value
    if not timedelta(0) <= delay <= LONGEST:
        raise InvalidInput(f"the delay {format_duration(delay)} is negative or longer than ten years")
    return delay


def _text(verb: str, delay: timedelta | None, reason: str) -> str:
    when = "" if delay is None else f" in {format_duration(delay)}"
    return f"{verb}{when}: {reason}" if reason else f"{verb}{when}"
