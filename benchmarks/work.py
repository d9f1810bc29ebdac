"""The work of the benchmark jobs, the same for every contender. It imports only the standard library."""

import os
import time
from functools import cache

#: How long a sleeping job sleeps. Seconds.
SLEEP = 0.005
_LEDGER = "BENCH_LEDGER"
_TURNS = "BENCH_SPIN"


def sleep() -> None:
    """Sleep for 5 ms."""
    time.sleep(SLEEP)


def spin() -> None:
    """Compute BENCH_SPIN turns: a fixed amount of work, about a millisecond on the calibrated machine."""
    turn(_turns())


def turn(turns: int) -> int:
    """Compute for this many turns of a loop."""
    total = 0
    for number in range(turns):
        total += number & 7
    return total


def calibrate(seconds: float = 0.001) -> dict[str, str]:
    """Return the environment in which `spin` takes this many seconds."""
    turns, best = 200_000, float("inf")
    for _ in range(15):
        started = time.perf_counter()
        turn(turns)
        best = min(best, time.perf_counter() - started)
    return {_TURNS: str(max(int(turns * seconds / best), 1))}


def note_delay(sent: float) -> None:
    """Write the seconds since `sent`, by the monotonic clock that all processes of a machine share."""
    now = time.monotonic()
    note(f"{now - sent:.9f}\n")


def note(line: str) -> None:
    """Append one short line to the ledger file, atomically: other processes write to it too."""
    os.write(_ledger(), line.encode())


def ledger(path: str) -> dict[str, str]:
    """Return the environment in which `note` writes to this file."""
    return {_LEDGER: path}


@cache
def _turns() -> int:
    return int(os.environ[_TURNS])


@cache
def _ledger() -> int:
    return os.open(os.environ[_LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
