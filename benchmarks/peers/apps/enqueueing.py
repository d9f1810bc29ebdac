"""Enqueue COUNT jobs of an app from one process, one call after the other, and print the jobs per second.

    python -m enqueueing APP single|bulk JOB COUNT

An app exports a generator `single(job)` and perhaps `bulk(job)`. Each step of it is one call. The first call
opens connections and is not timed.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module

import uvloop

#: The number of jobs in one call of bulk().
BULK = 1_000


def rate(steps: Iterator[None], calls: int) -> float:
    """Return the calls per second."""
    next(steps)
    started = time.perf_counter()
    for _ in range(calls - 1):
        next(steps)
    return (calls - 1) / (time.perf_counter() - started)


async def rate_async(steps: AsyncIterator[None], calls: int) -> float:
    """Return the calls per second."""
    await anext(steps)
    started = time.perf_counter()
    for _ in range(calls - 1):
        await anext(steps)
    return (calls - 1) / (time.perf_counter() - started)


def main(app: str, mode: str, job: str, count: int) -> None:
    size = BULK if mode == "bulk" else 1
    steps = getattr(import_module(app), mode)(job)
    calls = count // size
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # an asynchronous generator must start inside the event loop, so it is recognised by its method
        done = runner.run(rate_async(steps, calls)) if hasattr(steps, "__anext__") else rate(steps, calls)
    print(size * done)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
