"""PgQueuer's jobs and enqueue calls; `python -m pgqueuer_app BATCH_SIZE` runs a worker."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
async def worker() -> AsyncIterator[PgQueuer]:
    """Yield a manager with its own connection, as the project advises."""
    connection = await asyncpg.connect(URL)
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("noop")
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
    # the same as `pgq run`
    uvloop.run(pgqueuer.run(worker, batch_size=int(sys.argv[1])))
