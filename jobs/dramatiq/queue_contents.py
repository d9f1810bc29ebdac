"""What Dramatiq's `broker.join` and `broker.flush` do to a queue of jobs."""

from threading import Event
from typing import TYPE_CHECKING, Final

from dramatiq.errors import QueueJoinTimeout

from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.states import PENDING, TERMINAL, JobState, Verb
from callboard.jobs.operate.job_filter import JobFilter

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

_UNFINISHED: Final = tuple(state for state in JobState if state not in TERMINAL)
_WAITING: Final = tuple(state for state in JobState if state in PENDING)
#: The shortest pause between two looks at the queue. Milliseconds.
_SHORTEST: Final = 10


def wait_until_done(platform: "Platform", queue: str, *, interval: int, timeout: int | None) -> None:
    """Wait until the queue has no unfinished job. interval, timeout: milliseconds.

    Raises QueueJoinTimeout.
    """
    deadline = None if timeout is None else SYSTEM.monotonic() + timeout / 1000
    pause = max(interval, _SHORTEST) / 1000
    while platform.jobs.page(JobFilter(states=_UNFINISHED, queue=queue), limit=1).items:
        left = pause if deadline is None else deadline - SYSTEM.monotonic()
        if left <= 0:
            raise QueueJoinTimeout(queue)  # type: ignore[no-untyped-call]
        Event().wait(min(pause, left))


def drop_waiting(platform: "Platform", queue: str) -> None:
    """Cancel the jobs of the queue that have not started, however many there are."""
    which = JobFilter(states=_WAITING, queue=queue)
    while not platform.control.bulk(Verb.CANCEL, which).complete:
        pass
