"""The no-op job, for bare Dramatiq on its own Redis broker, with its default middleware."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS_URL"]))


@dramatiq.actor(queue_name="bench")
def noop() -> None:
    """Nothing."""
