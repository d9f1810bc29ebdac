"""Procrastinate's jobs and enqueue calls."""

import os
from collections.abc import Iterator

from enqueueing import BULK
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

URL = os.environ["BENCH_DATABASE_URL"]

app = App(connector=PsycopgConnector(conninfo=URL))


@app.task(name="noop", queue="bench")
def noop() -> None:
    """Do nothing, in a thread."""


@app.task(name="noop_async", queue="bench")
async def noop_async() -> None:
    """Do nothing, on the event loop."""


def single(job: str) -> Iterator[None]:
    with app.replace_connector(SyncPsycopgConnector(conninfo=URL)) as synchronous, synchronous.open():
        while True:
            synchronous.tasks[job].defer()
            yield


def bulk(job: str) -> Iterator[None]:
    with app.replace_connector(SyncPsycopgConnector(conninfo=URL)) as synchronous, synchronous.open():
        while True:
            synchronous.tasks[job].batch_defer(*({} for _ in range(BULK)))
            yield
