"""Enqueue so many jobs of an app, from one process and one call after the other, and print how many a second.

    python -m enqueueing APP single|bulk JOB COUNT

An app exports generators `single(job)` and perhaps `bulk(job)`: each step is one call. The first call opens
connections, and is not timed.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module

import uvloop

#: Jobs in one call of bulk().
BULK = 1_000


def rate(steps: Iterator[None], calls: int) -> float:
    """Calls a second."""
    next(steps)
    begun = time.perf_counter()
    for _ in range(calls - 1):
        next(steps)
    return (calls - 1) / (time.perf_counter() - begun)


async def rate_async(steps: AsyncIterator[None], calls: int) -> float:
    """Calls a second."""
    await anext(steps)
    begun = time.perf_counter()
    for _ in range(calls - 1):
        await anext(steps)
    return (calls - 1) / (time.perf_counter() - begun)


def main(app: str, how: str, job: str, count: int) -> None:
    size = BULK if how == "bulk" else 1
    steps = getattr(import_module(app), how)(job)
    calls = count // size
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # looked at without a type, for the generators of asynchronous apps begin in a loop
        done = runner.run(rate_async(steps, calls)) if hasattr(steps, "__anext__") else rate(steps, calls)
    print(size * done)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
