"""The jobs of the benchmarks, for Callboard; but for the webhook's the same functions as in rivals/bare_jobs.py."""

from typing import Any

from benchmarks import work
from callboard import job


@job(queue="bench")
def noop() -> None:
    """Nothing."""


@job(queue="bench")
async def noop_async() -> None:
    """Nothing, on the event loop."""


@job(queue="bench")
def sleeps() -> None:
    """5 ms of waiting, as for an answer."""
    work.sleep()


@job(queue="bench")
def spins() -> None:
    """1 ms of computing."""
    work.spin()


@job(queue="bench")
def picked_up(sent: float) -> None:
    """Note how long it took from `sent` until here."""
    work.note_delay(sent)


@job(queue="bench")
def counted(number: int) -> None:
    """Note that it ran."""
    work.note(f"{number}\n")


@job(queue="bench")
def pushed(event: str, delivery_id: str, payload: dict[str, Any]) -> None:
    """Take a webhook in, and do nothing with it."""
