"""PgQueuer's jobs and enqueue calls; `python -m pgqueuer_app BATCH_SIZE CONCURRENCY_LIMIT` runs a worker.

A limit of 0 means no limit.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import pgqueuer
import uvloop
from enqueueing import BULK
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

URL = os.environ["BENCH_DATABASE_URL"]


def nothing() -> None:
    """Do nothing. This is the function that the synchronous job runs in a thread."""


@asynccontextmanager
async def worker(limit: int) -> AsyncIterator[PgQueuer]:
    """Yield a manager with its own connection, as the project advises."""
    connection = await asyncpg.connect(URL)
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("noop", concurrency_limit=limit)
    async def noop(_: Job) -> None:
        await asyncio.to_thread(nothing)

    @queuer.entrypoint("noop_async")
    async def noop_async(_: Job) -> None:
        """Do nothing."""

    try:
        yield queuer
    finally:
        await connection.close()


async def single(job: str) -> AsyncIterator[None]:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(URL)))
    while True:
        await queries.enqueue(job, None)
        yield


async def bulk(job: str) -> AsyncIterator[None]:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(URL)))
    while True:
        await queries.enqueue([job] * BULK, [None] * BULK, [0] * BULK)
        yield


if __name__ == "__main__":
    batch_size, limit = map(int, sys.argv[1:])
    # the same as `pgq run`
    uvloop.run(pgqueuer.run(partial(worker, limit), batch_size=batch_size))
