"""How fast a backlog is worked off: the rate between 10% and 100% done, so that the start of processes does not count."""

import time
from collections.abc import Callable

from benchmarks.arena import PATIENCE, Arena
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
    """Enqueue so many of these jobs; numbered ones get a `number`."""
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        requests = [job_request({"name": job, "kwargs": {"number": n} if numbered else {}}) for n in numbers]
        arena.platform.enqueue.many(requests, PYTHON)


def drain(
    arena: Arena,
    process: Running,
    done: Callable[[], int],
    count: int,
    *,
    meanwhile: Callable[[int], None] = lambda _: None,
) -> dict[str, float]:
    """The rate at which `process` works off `count` jobs, and the CPU microseconds for each.

    Few jobs may all be done at the first look: then the start of processes does count.
    meanwhile: called after each look, with how many are done.
    """
    start = begun = (time.monotonic(), 0, arena.cpu())
    while True:
        ended, now = done(), time.monotonic()
        if begun is start and count * 0.1 <= ended < count:
            begun = (now, ended, arena.cpu())
        if ended >= count:
            break
        meanwhile(ended)
        process.check()
        if now > start[0] + PATIENCE:
            raise TimeoutError(f"{count - ended} of {count} jobs were left after {PATIENCE:.0f} s")
        # To ask costs the database something, so not too often; towards the end it is the time that is measured.
        time.sleep(0.1 if ended < count * 0.9 else 0.02)
    since, had, cpu = begun
    return {"rate": (count - had) / (now - since), **arena.cpu_us(cpu, arena.cpu(), count - had)}


def ended(arena: Arena) -> int:
    """Jobs that have come to an end, in Postgres."""
    return int(arena.sql(_ENDED)[0][0])


def check_all_done(arena: Arena, count: int) -> None:
    """Every job has succeeded, with its first attempt; raises RuntimeError."""
    there, wrong = ended(arena), int(arena.sql(_WRONG)[0][0])
    if there != count or wrong:
        raise RuntimeError(f"of {count} jobs {there} have ended, {wrong} not as they should")
