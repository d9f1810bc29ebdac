"""The benchmark jobs for bare Dramatiq, on its own Redis broker with its default middleware.

With BENCH_ASYNC its AsyncIO middleware is added, which coroutines need.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

from benchmarks import work

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])
if os.environ.get("BENCH_ASYNC"):
    broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench")
def noop() -> None:
    """Do nothing."""


if os.environ.get("BENCH_ASYNC"):

    @dramatiq.actor(queue_name="bench")
    async def noop_async() -> None:
        """Do nothing, on the event loop."""


@dramatiq.actor(queue_name="bench")
def sleeps() -> None:
    """Sleep for 5 ms, as a job that waits for a response."""
    work.sleep()


@dramatiq.actor(queue_name="bench")
def spins() -> None:
    """Compute for 1 ms."""
    work.spin()


@dramatiq.actor(queue_name="bench")
def picked_up(sent: float) -> None:
    """Record the time from `sent` until now."""
    work.note_delay(sent)
