"""The gauges of queues and workers: read from Postgres, once, by the scheduler that leads."""

from datetime import datetime

from prometheus_client import Gauge

from jobs.database import Database
from jobs.repositories import job_queries, queues, workers
from jobs.states import JobState

QUEUE_JOBS = Gauge("callboard_queue_jobs", "Unfinished jobs.", ["queue", "state"])
QUEUE_OLDEST = Gauge(
    "callboard_queue_oldest_seconds", "How long the oldest queued job has been due.", ["queue"]
)
QUEUE_GRANTED = Gauge(
    "callboard_queue_granted", "Jobs of a limited queue that may start and have not.", ["queue"]
)
WORKERS = Gauge("callboard_workers", "Workers with a lease that serve the queue.", ["queue"])

_STATES = (JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.RETRYING)


class Gauges:
    """Sets the gauges; a scheduler that stands by shows none, so that nothing is counted twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def round(self) -> None:
        with self._database.autocommit() as connection:
            now = job_queries.server_time(connection)
            counts = queues.counts(connection)
            live = workers.live(connection)
        for queue in counts:
            for state in _STATES:
                QUEUE_JOBS.labels(queue.name, state).set(getattr(queue, state))
            QUEUE_GRANTED.labels(queue.name).set(queue.granted)
            QUEUE_OLDEST.labels(queue.name).set(_age(now, queue.oldest_at))
            serving = [worker for worker in live if not worker.queues or queue.name in worker.queues]
            WORKERS.labels(queue.name).set(len(serving))

    @staticmethod
    def clear() -> None:
        for gauge in (QUEUE_JOBS, QUEUE_OLDEST, QUEUE_GRANTED, WORKERS):
            gauge.clear()


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
