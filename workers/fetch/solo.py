"""Run one job alone, in a child that ends after it.

If the job kills its process, no other job is harmed.
"""

from collections.abc import Sequence
from threading import Event
from typing import Any

from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.workers.fetch.consumer import JobConsumer


class SoloConsumer(JobConsumer):
    """Claims one job that must run alone, and nothing after it."""

    def __init__(self, *, definitions: dict[str, JobDefinition], queues: Sequence[str], **parts: Any) -> None:
        super().__init__(definitions=definitions, queues=queues, **parts)
        self._queue_names = queues
        #: Set when the job is claimed, or when there is none. The child is done when the slots are empty
        #: then.
        self.settled = Event()

    def _fill(self) -> None:
        if self.settled.is_set():
            self._draining.wait(1.0)
            return
        # The queues are of no interest, but this fails while the tables do not fit.
        self._claims.served_queues(self._queue_names)
        with self.claiming:
            try:
                if not self._draining.is_set():
                    self._accept(self._claims.claim_solo(sorted(self._definitions), self._queue_names))
            finally:
                # A claim whose answer was lost is not searched for. When the lease ends, its job is rescued.
                self.settled.set()
