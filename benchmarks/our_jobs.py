"""The benchmark jobs for Callboard: the functions of rivals/bare_jobs.py, and a webhook's job."""

import logging
from typing import Any

from benchmarks import work
from callboard import job

log = logging.getLogger(__name__)


@job(queue="bench")
def noop() -> None:
    """Do nothing."""


@job(queue="bench")
async def noop_async() -> None:
    """Do nothing, on the event loop."""


@job(queue="bench")
def sleeps() -> None:
    """Sleep for 5 ms, as a job that waits for a response."""
    work.sleep()


@job(queue="bench")
def spins() -> None:
    """Compute for 1 ms."""
    work.spin()


@job(queue="bench")
def picked_up(sent: float) -> None:
    """Record the time from `sent` until now."""
    work.note_delay(sent)


@job(queue="bench")
def counted(number: int) -> None:
    """Record that this job ran."""
    work.note(f"{number}\n")


@job(queue="bench")
def logs() -> None:
    """Log one line."""
    log.info("nothing to do for account %d", 7)


@job(queue="bench")
def pushed(event: str, delivery_id: str, payload: dict[str, Any]) -> None:
    """Take a webhook's arguments and do nothing."""
