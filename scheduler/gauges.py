"""The gauges of queues and workers. The scheduler that leads reads them from Postgres."""

from datetime import datetime
from typing import Final

from callboard.jobs.metric_labels import GaugeTable
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.queues import Queues

QUEUE_JOBS = GaugeTable("callboard_queue_jobs", "Unfinished jobs.", ["queue", "state"], fixed=["state"])
QUEUE_OLDEST = GaugeTable(
    "callboard_queue_oldest_seconds",
    "How long the oldest queued job has been due, of the thousand that come next.",
    ["queue"],
    rest=max,
)
QUEUE_GRANTED = GaugeTable(
    "callboard_queue_granted", "Jobs of a limited queue that may start and have not.", ["queue"]
)
SUSPECTS = GaugeTable(
    "callboard_queue_suspects", "Jobs that wait to run alone, because workers died while they ran.", ["queue"]
)
#: A queue without workers is what an alarm looks for, so the smallest numbers are shown.
WORKERS = GaugeTable("callboard_workers", "Workers with a lease that serve the queue.", ["queue"], rest=min)

#: How often queues are counted. Seconds.
GAUGE_EVERY: Final = 10.0
#: After a count, the next one waits for 20 times as long as the count took.
_PAUSE_FACTOR: Final = 20
#: `claimed`: claimed ahead by a worker, and not begun. The table's state of such a job is `running`.
_STATES: Final = (JobState.SCHEDULED, JobState.QUEUED, "claimed", JobState.RUNNING, JobState.RETRYING)


class Gauges:
    """Sets the gauges. A standby has no values, because otherwise everything would be counted twice.

    A queue that is not in use any more has no values either.

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
        found, suspects = self._queues.gauged(), self._queues.suspects()
        self._not_before = self._clock.monotonic() + (self._clock.monotonic() - began) * _PAUSE_FACTOR
        current = [each for each in found if each.in_use]
        QUEUE_JOBS.replace(
            {(each.counts.name, state): getattr(each.counts, state) for each in current for state in _STATES}
        )
        QUEUE_GRANTED.replace({(each.counts.name,): each.counts.granted for each in current})
        SUSPECTS.replace({(each.counts.name,): suspects.get(each.counts.name, 0) for each in current})
        QUEUE_OLDEST.replace({(each.counts.name,): _age(each.at, each.counts.oldest_at) for each in current})
        WORKERS.replace({(each.counts.name,): each.workers for each in current})

    @staticmethod
    def clear() -> None:
        """Remove all values."""
        for gauge in (QUEUE_JOBS, QUEUE_OLDEST, QUEUE_GRANTED, SUSPECTS, WORKERS):
            gauge.clear()


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
