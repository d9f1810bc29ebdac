"""Huey's jobs and enqueuers."""

import os
from collections.abc import Iterator

import counting
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS_URL"], results=False)
huey.on_shutdown()(counting.note)


@huey.task()
def noop() -> None:
    """Nothing but to be counted."""
    counting.one()


def single(_: str) -> Iterator[None]:
    while True:
        noop()
        yield
