"""Celery's jobs and enqueuers: the broker is Redis, and with BENCH_RESULTS results go to Postgres."""

import os
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import counting
from celery import Celery, signals

_redis = unquote(urlsplit(os.environ["BENCH_REDIS_URL"]).path)
_results = os.environ.get("BENCH_RESULTS")

app = Celery("bench", broker=f"redis+socket://{_redis}", backend=_results)
app.conf.update(
    task_default_queue="bench",
    task_ignore_result=not _results,
    # its guide to optimizing: 64 or 128 for many short tasks
    worker_prefetch_multiplier=128,
)
# of a child of the prefork pool, and of a worker with any other
signals.worker_process_shutdown.connect(counting.note)
signals.worker_shutdown.connect(counting.note)


@app.task
def noop() -> None:
    """Nothing but to be counted."""
    counting.one()


def single(_: str) -> Iterator[None]:
    while True:
        noop.delay()
        yield
