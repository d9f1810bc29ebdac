"""The jobs of the end-to-end tests; copied into the working directory of the processes that run them."""

import asyncio
import os
import time
from pathlib import Path

from jobs import RetryPolicy, current_job, job

ONCE = RetryPolicy(max_attempts=1)
_NAP = 0.02


def note_start() -> None:
    """One short line in the ledger, whole or not at all, for every attempt that begins."""
    ledger = os.open(os.environ["CALLBOARD_TEST_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{current_job().id}\n".encode())
    os.close(ledger)


@job
def ledger(n: int) -> int:
    """Note the start; long enough for a kill to find some of it under way."""
    note_start()
    time.sleep(0.005)
    return n


@job
def second(n: int) -> int:
    note_start()
    time.sleep(1.0)
    return n


@job
def clock() -> float:
    """When its first line ran."""
    return time.time()


@job
def until_there(path: str) -> int:
    """Wait for a file; returns which process did."""
    note_start()
    while not Path(path).exists():
        time.sleep(_NAP)
    return os.getpid()


@job(retry=ONCE)
def dozes(seconds: float) -> str:
    """Sleep in short naps, which an interrupt can get between."""
    note_start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(_NAP)
    return "slept"


@job(queue="async", retry=ONCE)
async def naps(seconds: float) -> str:
    note_start()
    await asyncio.sleep(seconds)
    return "slept"


@job(retry=ONCE)
def stubborn(seconds: float) -> str:
    """Swallow every interrupt."""
    note_start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(_NAP)
        except BaseException:  # noqa: BLE001 - this is what it is for
            continue
    return "slept"


@job
def poison() -> None:
    """Take the process along."""
    note_start()
    os._exit(1)


@job(retry=ONCE)
def too_much(size: int) -> str:
    return "x" * size


class Unspeakable(Exception):
    """An error that raises when it is to say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


@job(retry=ONCE)
def unspeakable() -> None:
    raise Unspeakable


@job(queue="async", retry=ONCE)
async def unspeakable_async() -> None:
    raise Unspeakable


@job(retry=ONCE)
def garbled_note() -> None:
    """Report text that is not valid Unicode, and live until it has been written."""
    current_job().progress(0.5, "half \ud800 done")
    time.sleep(1.5)
