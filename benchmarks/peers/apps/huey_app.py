"""Huey's jobs and enqueue calls."""

import os
from collections.abc import Iterator

import counting
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS_URL"], results=False)
huey.on_shutdown()(counting.note)


@huey.task()
def noop() -> None:
    """Count this run, and nothing else."""
    counting.one()


def single(_: str) -> Iterator[None]:
    while True:
        noop()
        yield
