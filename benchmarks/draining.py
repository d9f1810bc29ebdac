"""Measure how fast a backlog is drained: the rate from 10% to 100%, without the start of the processes."""

import time
from collections.abc import Callable

from benchmarks.arena import TIMEOUT, Arena
from benchmarks.processes import Running
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import job_request
from callboard.jobs.model.states import TERMINAL
from callboard.jobs.postgres.sql import in_states

PYTHON = Source("python")
_BATCH = 5_000
_ENDED = f"SELECT count(*) FROM callboard.jobs WHERE {in_states(TERMINAL)}"
_WRONG = "SELECT count(*) FROM callboard.jobs WHERE state <> 'succeeded' OR attempt <> 1"


def fill(arena: Arena, job: str, count: int, *, numbered: bool = False) -> None:
    """Enqueue `count` jobs. If `numbered`, each gets its `number` as an argument."""
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        requests = [job_request({"name": job, "kwargs": {"number": n} if numbered else {}}) for n in numbers]
        enqueue = arena.platform.enqueue
        enqueue.accept(enqueue.check_all(requests, PYTHON))


def drain(
    arena: Arena,
    process: Running,
    done: Callable[[], int],
    count: int,
    *,
    meanwhile: Callable[[int], None] = lambda _: None,
) -> dict[str, float]:
    """Return the rate at which `process` runs `count` jobs, and the CPU microseconds per job.

    If all jobs are done at the first check, the start of the processes is included.

    done:      returns how many jobs are done
    meanwhile: called with that number after each check
    """
    start = measured_from = (time.monotonic(), 0, arena.cpu())
    while True:
        ended, now = done(), time.monotonic()
        if measured_from is start and count * 0.1 <= ended < count:
            measured_from = (now, ended, arena.cpu())
        if ended >= count:
            break
        meanwhile(ended)
        process.check()
        if now > start[0] + TIMEOUT:
            raise TimeoutError(f"{count - ended} of {count} jobs are not done after {TIMEOUT:.0f} s")
        # The check costs the database time, so it is rare; near the end it must be exact in time.
        time.sleep(0.1 if ended < count * 0.9 else 0.02)
    since, ended_before, cpu = measured_from
    measured = count - ended_before
    return {"rate": measured / (now - since), **arena.cpu_us(cpu, arena.cpu(), measured)}


def ended(arena: Arena) -> int:
    """Return how many jobs are in a terminal state."""
    return int(arena.sql(_ENDED)[0][0])


def check_all_done(arena: Arena, count: int) -> None:
    """Raise RuntimeError unless all `count` jobs succeeded in their first attempt."""
    there, wrong = ended(arena), int(arena.sql(_WRONG)[0][0])
    if there != count or wrong:
        raise RuntimeError(f"{there} of {count} jobs have ended, {wrong} did not succeed in one attempt")
