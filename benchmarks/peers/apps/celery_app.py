"""Celery's jobs and enqueue calls. The broker is Redis; with BENCH_RESULTS, results go to Postgres."""

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
    # Celery's optimization guide suggests 64 or 128 for many short tasks
    worker_prefetch_multiplier=128,
)
# the first signal is for children of the prefork pool, the second for workers with another pool
signals.worker_process_shutdown.connect(counting.note)
signals.worker_shutdown.connect(counting.note)


@app.task
def noop() -> None:
    """Count this run, and nothing else."""
    counting.one()


def single(_: str) -> Iterator[None]:
    while True:
        noop.delay()
        yield
