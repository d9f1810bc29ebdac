"""taskiq's jobs and enqueue calls."""

import os
from collections.abc import AsyncIterator

import counting
from taskiq import TaskiqEvents
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(os.environ["BENCH_REDIS_URL"], queue_name="bench")
broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)(counting.note)


@broker.task
def noop() -> None:
    """Count this run, in a thread."""
    counting.one()


@broker.task
async def noop_async() -> None:
    """Count this run, on the event loop."""
    counting.one()


async def single(job: str) -> AsyncIterator[None]:
    task = {"noop": noop, "noop_async": noop_async}[job]
    await broker.startup()
    while True:
        await task.kiq()
        yield
