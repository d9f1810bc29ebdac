"""Queues: which there are, which are paused, what they hold."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from callboard.jobs.model.queue_limits import Limits


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """A queue, its unfinished jobs and its limits.

    oldest_at: when the job became due that has waited longest, of the thousand that come next. Of a longer queue's others
    none has waited more than ninety minutes longer, which is what the highest priority is worth.
    """

    name: str
    paused_at: datetime | None
    scheduled: int
    queued: int
    running: int
    retrying: int
    oldest_at: datetime | None
    #: Granted within the limits, and not yet claimed.
    granted: int
    #: Started within the rate's period; 0 without a rate.
    started: int
    limits: Limits


class Gauged(NamedTuple):
    """A queue's counts, when they were taken, and how many workers with a lease serve it."""

    counts: QueueCounts
    at: datetime
    workers: int
