"""The reasons for which a running job is interrupted, as exceptions that are raised inside the job."""

import sys
from threading import get_ident
from typing import Any, Final

from dramatiq.middleware import Shutdown, TimeLimitExceeded
from dramatiq.threading import Interrupt

from callboard.jobs.attempts.error_text import context_of

#: By thread: the interrupts that were raised in it. A thread is here while an interrupt is on its way to it.
RAISED_IN: Final[dict[int, list["JobInterrupt"]]] = {}


class JobInterrupt(Interrupt):
    """A running job is interrupted. A BaseException, so `except Exception` in a job does not catch it.

    CPython makes the instance in the job's thread when it raises it there. So an instance says that the job
    was interrupted, and an interrupt that was withdrawn before has none.
    """

    #: When more than one is raised in a job, the highest decides how the attempt ends.
    weight = 0
    #: What the job did after it had caught the interrupt; None when it let the interrupt pass.
    caught: str | None = None

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        raised = RAISED_IN.get(get_ident())
        if raised is not None:
            raised.append(self)


class CancelInterrupt(JobInterrupt):
    """A stop of the job was requested."""

    weight = 2


class TimeoutInterrupt(JobInterrupt, TimeLimitExceeded):
    """The attempt took longer than its timeout. Jobs may catch it as Dramatiq's TimeLimitExceeded."""

    weight = 1


class ShutdownInterrupt(JobInterrupt, Shutdown):
    """The worker's grace period is over. Jobs may catch it as Dramatiq's Shutdown."""


def cleans_up(thread: int) -> bool:
    """Return whether a thread is in an `except` or `finally` block that an interrupt led to."""
    handled: Any = sys._current_exceptions().get(thread)  # noqa: SLF001 - documented, despite its name
    # A triple up to Python 3.11.
    error: BaseException | None = handled[1] if isinstance(handled, tuple) else handled
    seen: set[int] = set()
    # A job may have made a circle of causes.
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if issubclass(type(error), JobInterrupt):
            return True
        error = context_of(error)
    return False
