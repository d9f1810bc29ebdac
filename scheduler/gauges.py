"""The gauges of queues and workers: read from Postgres, once, by the scheduler that leads."""

from datetime import datetime
from typing import Final

from prometheus_client import Gauge

from callboard.jobs.model.clock import SYSTEM, Clock
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.repository import queue_rows
from callboard.jobs.postgres.database import Database

QUEUE_JOBS = Gauge("callboard_queue_jobs", "Unfinished jobs.", ["queue", "state"])
QUEUE_OLDEST = Gauge(
    "callboard_queue_oldest_seconds",
    "How long the oldest queued job has been due, of the thousand that come next.",
    ["queue"],
)
QUEUE_GRANTED = Gauge(
    "callboard_queue_granted", "Jobs of a limited queue that may start and have not.", ["queue"]
)
WORKERS = Gauge("callboard_workers", "Workers with a lease that serve the queue.", ["queue"])

#: How often queues are counted. Seconds.
GAUGE_EVERY: Final = 10.0
#: After a count nothing is counted for so many times as long as it took.
_SHARE: Final = 20
_STATES = (JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.RETRYING)


class Gauges:
    """Sets the gauges; a scheduler that stands by shows none, so that nothing is counted twice.

    A gauge shows what was counted last: at most `GAUGE_EVERY` seconds ago, and longer where counting takes long, of which
    it makes up a twentieth of the time at most.
    """

    def __init__(self, database: Database, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        self._not_before = float("-inf")

    def round(self) -> None:
        began = self._clock.monotonic()
        if began < self._not_before:
            return
        with self._database.autocommit() as connection:
            found = queue_rows.gauged(connection)
        self._not_before = self._clock.monotonic() + (self._clock.monotonic() - began) * _SHARE
        for queue, at, workers in found:
            for state in _STATES:
                QUEUE_JOBS.labels(queue.name, state).set(getattr(queue, state))
            QUEUE_GRANTED.labels(queue.name).set(queue.granted)
            QUEUE_OLDEST.labels(queue.name).set(_age(at, queue.oldest_at))
            WORKERS.labels(queue.name).set(workers)

    @staticmethod
    def clear() -> None:
        for gauge in (QUEUE_JOBS, QUEUE_OLDEST, QUEUE_GRANTED, WORKERS):
            gauge.clear()


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
