"""The jobs of the benchmarks, for bare Dramatiq: its own Redis broker with its default middleware.

With BENCH_ASYNC its AsyncIO middleware is added, without which it runs no coroutines.
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
    """Nothing."""


if os.environ.get("BENCH_ASYNC"):

    @dramatiq.actor(queue_name="bench")
    async def noop_async() -> None:
        """Nothing, on the event loop."""


@dramatiq.actor(queue_name="bench")
def sleeps() -> None:
    """5 ms of waiting, as for an answer."""
    work.sleep()


@dramatiq.actor(queue_name="bench")
def spins() -> None:
    """1 ms of computing."""
    work.spin()


@dramatiq.actor(queue_name="bench")
def picked_up(sent: float) -> None:
    """Note how long it took from `sent` until here."""
    work.note_delay(sent)
