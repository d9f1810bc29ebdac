"""The gauges of queues and workers. The scheduler that leads reads them from Postgres."""

from datetime import datetime
from typing import Final

from prometheus_client import Gauge

from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.queues import Queues

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
#: After a count, the next one waits for 20 times as long as the count took.
_PAUSE_FACTOR: Final = 20
_STATES: Final = (JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.RETRYING)


class Gauges:
    """Sets the gauges. A standby has no values, because otherwise everything would be counted twice.

    A gauge is at most `GAUGE_EVERY` seconds old. It may be older if counting is slow, because counting may
    use at most a twentieth of the time.
    """

    def __init__(self, queues: Queues, clock: Clock = SYSTEM) -> None:
        self._queues = queues
        self._clock = clock
        self._not_before = float("-inf")

    def round(self) -> None:
        """Count and set the gauges, unless the next count is not due yet."""
        began = self._clock.monotonic()
        if began < self._not_before:
            return
        found = self._queues.gauged()
        self._not_before = self._clock.monotonic() + (self._clock.monotonic() - began) * _PAUSE_FACTOR
        for queue, at, workers in found:
            for state in _STATES:
                QUEUE_JOBS.labels(queue.name, state).set(getattr(queue, state))
            QUEUE_GRANTED.labels(queue.name).set(queue.granted)
            QUEUE_OLDEST.labels(queue.name).set(_age(at, queue.oldest_at))
            WORKERS.labels(queue.name).set(workers)

    @staticmethod
    def clear() -> None:
        """Remove all values."""
        for gauge in (QUEUE_JOBS, QUEUE_OLDEST, QUEUE_GRANTED, WORKERS):
            gauge.clear()


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
