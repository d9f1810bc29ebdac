"""The jobs of the end-to-end tests; copied into the working directory of the processes that run them."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from tenacity import wait_fixed

from callboard import RetryPolicy, Snooze, current_job, job

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
def swallows(text: str) -> int:
    return len(text)


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


def die(how: str) -> None:
    """Take the process along, as a library's exit, a bug in C code, or the kernel short of memory do."""
    note_start()
    match how:
        case "exit":
            os._exit(0)
        case "segfault":
            ctypes.string_at(0)
        case _:
            os.kill(os.getpid(), signal.SIGKILL)


@job(retry=ONCE)
def signals(times: int, then: float) -> str:
    """Send SIGTERM to its own process, and go on."""
    note_start()
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    end = time.monotonic() + then
    while time.monotonic() < end:
        time.sleep(_NAP)
    return "slept"


@job
def deadly(how: str) -> None:
    """Let others begin beside it first."""
    time.sleep(0.4)
    die(how)


@job(queue="async")
async def deadly_async(how: str) -> None:
    await asyncio.sleep(0.2)
    die(how)


class Bomb(dict[str, int]):
    """A result that ends the process when the worker lets it go: after the job's end, before its commit."""

    def __del__(self) -> None:
        os.abort()


@job
def deadly_result(seconds: float) -> dict[str, int]:
    """Let others begin beside it first."""
    note_start()
    time.sleep(seconds)
    return Bomb()


@job(queue="async")
async def deadly_result_async(seconds: float) -> dict[str, int]:
    note_start()
    await asyncio.sleep(seconds)
    return Bomb()


@job(retry=ONCE)
def keeps_the_interpreter(seconds: int) -> str:
    """Sit in a C call that lets no other thread run."""
    note_start()
    ctypes.PyDLL(None).sleep(seconds)
    return "slept"


@job(queue="async", retry=ONCE)
async def blocks_the_loop(seconds: float) -> str:
    note_start()
    time.sleep(seconds)  # noqa: ASYNC251 - this is what it is for
    return "slept"


@job(retry=ONCE)
def swallows_one(seconds: float) -> str:
    """Swallow the first interrupt, and no other."""
    note_start()
    end, swallowed = time.monotonic() + seconds, False
    while time.monotonic() < end:
        try:
            time.sleep(_NAP)
        except BaseException:
            if swallowed:
                raise
            swallowed = True
    return "slept"


@job(retry=ONCE)
def tidies_up(path: str) -> None:
    """Take longer to clean up than it takes to be interrupted again."""
    note_start()
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            time.sleep(_NAP)
    finally:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            time.sleep(_NAP)
        Path(path).touch()


@job(queue="limited")
def span(n: int, seconds: float, key: str = "") -> int:
    """Note when it was claimed, and when it began and ended, on the clock that all processes of a machine
    share.
    """
    began, job_ = time.monotonic(), current_job()
    who = f"{job_.id}:{os.getpid()}:{job_._job.started_at.timestamp()}"
    ledger = os.open(os.environ["CALLBOARD_TEST_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"began:{who}:{began}:{key}\n".encode())
    time.sleep(seconds)
    os.write(ledger, f"ended:{who}:{time.monotonic()}:{key}\n".encode())
    os.close(ledger)
    return n


@job(retry=RetryPolicy(max_attempts=5, wait=wait_fixed(4)))
def fails_twice() -> int:
    note_start()
    attempt = current_job().attempt
    if attempt < 3:
        raise ValueError(f"attempt {attempt}")
    return attempt


@job(retry=ONCE)
def snoozes_until_there(path: str) -> str:
    note_start()
    if not Path(path).exists():
        raise Snooze("200ms")
    return "there"


@job(retry=ONCE)
def forks(way: str, then: float = 0.0) -> int:
    """Fork, and wait for the copy, which leaves this function as it is told; then sleep in C."""
    copy = os.fork()
    if copy == 0:
        if way == "raise":
            raise OSError(way)
        if way == "exit":
            sys.exit(7)
        return 0
    code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    time.sleep(then)
    return code


@job
def echo(value: object) -> object:
    return value


@job
def keep_webhook(event: str, delivery_id: str, payload: dict[str, int] | None) -> dict[str, object]:
    delivery = current_job().delivery
    return {"payload": payload, "body": None if delivery is None else delivery.body().hex()}
