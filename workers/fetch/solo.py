"""Running one job alone, in a child that ends with it: what it does to its process, it does to nobody else."""

from collections.abc import Sequence
from threading import Event
from typing import Any

from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.workers.fetch.consumer import JobConsumer


class SoloConsumer(JobConsumer):
    """Claims one job that is to run alone, and nothing after it."""

    def __init__(self, *, definitions: dict[str, JobDefinition], wanted: Sequence[str], **parts: Any) -> None:
        super().__init__(definitions=definitions, wanted=wanted, **parts)
        self._wanted = wanted
        #: Set once it has its job, or there is none: when the slots are empty then, all is done.
        self.settled = Event()

    def _fill(self) -> None:
        if self.settled.is_set():
            self._draining.wait(1.0)
            return
        with self.claiming:
            try:
                if not self._draining.is_set():
                    self._accept(self._execution.claim_solo(sorted(self._definitions), self._wanted))
            finally:
                # A claim whose answer is lost is not looked for: the end of the lease gives back what it took.
                self.settled.set()
