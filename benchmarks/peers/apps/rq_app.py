"""RQ's jobs and enqueuers."""

import os
from collections.abc import Iterator

from enqueueing import BULK
from redis import Redis
from rq import Queue

# A result that is not kept is the least work.
TTL = 0


def noop() -> None:
    """Nothing."""


def _queue() -> Queue:
    return Queue("bench", connection=Redis.from_url(os.environ["BENCH_REDIS_URL"]))


def single(_: str) -> Iterator[None]:
    queue = _queue()
    while True:
        queue.enqueue(noop, result_ttl=TTL)
        yield


def bulk(_: str) -> Iterator[None]:
    queue = _queue()
    while True:
        queue.enqueue_many([Queue.prepare_data(noop, result_ttl=TTL) for _ in range(BULK)])
        yield
