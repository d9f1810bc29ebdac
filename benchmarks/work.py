"""What the jobs of the benchmarks do: the same for every contender. Imports nothing but the standard library."""

import os
import time
from functools import cache

#: Of one sleeping job.
SLEEP = 0.005
_LEDGER = "BENCH_LEDGER"
_TURNS = "BENCH_SPIN"


def sleep() -> None:
    time.sleep(SLEEP)


def spin() -> None:
    """A fixed amount of computing, BENCH_SPIN turns: about a millisecond on the machine that has calibrated it."""
    turn(_turns())


def turn(turns: int) -> int:
    total = 0
    for number in range(turns):
        total += number & 7
    return total


def calibrate(seconds: float = 0.001) -> dict[str, str]:
    """The environment in which `spin` takes so long."""
    turns, best = 200_000, float("inf")
    for _ in range(15):
        begun = time.perf_counter()
        turn(turns)
        best = min(best, time.perf_counter() - begun)
    return {_TURNS: str(max(int(turns * seconds / best), 1))}


def note_delay(sent: float) -> None:
    """Note the seconds since `sent`, by the clock that all processes of a machine share."""
    now = time.monotonic()
    note(f"{now - sent:.9f}\n")


def note(line: str) -> None:
    """One short line in the ledger, whole or not at all, whoever else writes there."""
    os.write(_ledger(), line.encode())


def ledger(path: str) -> dict[str, str]:
    """The environment in which `note` writes to this file."""
    return {_LEDGER: path}


@cache
def _turns() -> int:
    return int(os.environ[_TURNS])


@cache
def _ledger() -> int:
    return os.open(os.environ[_LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
