"""The counts of a queue."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from callboard.jobs.model.queue_limits import Limits


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """A queue, the number of its unfinished jobs by state, and its limits.

    running:   jobs that have begun.
    claimed:   jobs that a worker has claimed ahead, and that have not begun. Both have the state `running`.
               The division is some seconds old, their sum is exact.
    oldest_at: when the longest-waiting of the next thousand jobs became due. In a longer queue, another job
               may have waited up to 90 minutes longer: that is the difference between the highest and the
               lowest priority.
    """

    name: str
    paused_at: datetime | None
    scheduled: int
    queued: int
    running: int
    claimed: int
    retrying: int
    oldest_at: datetime | None
    #: Jobs that are granted and not claimed yet.
    granted: int
    #: Starts within the rate's period; 0 without a rate.
    started: int
    limits: Limits


class Gauged(NamedTuple):
    """A queue's counts, the time of the count, and how many workers with a lease serve the queue.

    named: whether a job type or a worker names the queue.
    """

    counts: QueueCounts
    at: datetime
    workers: int
    named: bool

    @property
    def in_use(self) -> bool:
        """Whether the queue has jobs, is paused or limited, or is named. Queues are never deleted."""
        now = self.counts
        jobs = now.scheduled + now.queued + now.running + now.claimed + now.retrying
        return bool(jobs or now.paused_at or now.limits.any or self.named)
