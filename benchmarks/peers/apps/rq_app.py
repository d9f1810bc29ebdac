"""RQ's jobs and enqueue calls."""

import os
from collections.abc import Iterator

from enqueueing import BULK
from redis import Redis
from rq import Queue

# Not keeping a result is the cheapest setting.
TTL = 0


def noop() -> None:
    """Do nothing."""


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
