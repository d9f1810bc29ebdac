"""Run suspects one after another, each alone in this process.

If one of them kills the process, no other job is harmed, and the cause is known.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.workers.fetch.consumer import JobConsumer

#: How often a child without a job asks for one, and after how long without any it ends. Seconds.
_ASK_EVERY: Final = 0.5
_KEPT_FOR: Final = 30.0


class SoloConsumer(JobConsumer):
    """Claims a job that must run alone, and the next one when the outcome of that one is committed."""

    def __init__(self, *, definitions: dict[str, JobDefinition], queues: Sequence[str], **parts: Any) -> None:
        super().__init__(definitions=definitions, queues=queues, **parts)
        self._queue_names = queues
        self._idle_since = self._clock.monotonic()
        #: Set when there was nothing to claim for a while, or when the answer to a claim was lost. The child
        #: is done when the slots are empty then.
        self.settled = Event()

    @contextmanager
    def accepting(self) -> Iterator[bool]:
        """Yield False: this child claims only jobs that must run alone."""
        yield False

    def _fill(self) -> None:
        if self.settled.is_set():
            self._draining.wait(_ASK_EVERY)
        elif self._slots.count():
            self._slots.wait_empty(_ASK_EVERY)
            self._idle_since = self._clock.monotonic()
        elif not self._claim():
            if self._clock.monotonic() - self._idle_since > _KEPT_FOR:
                self.settled.set()
            self._draining.wait(_ASK_EVERY)

    def _claim(self) -> bool:
        """Claim a job; return whether there was one."""
        # The queues are of no interest, but this fails while the tables do not fit.
        self._claims.served_queues(self._queue_names)
        with self.claiming:
            if self._draining.is_set():
                return False
            try:
                claimed = self._claims.claim_solo(sorted(self._definitions), self._queue_names)
            finally:
                # A second claim could put two jobs into this process. When its lease ends, the job of the
                # lost claim is rescued.
                if self._claims.has_unanswered:
                    self.settled.set()
            self._accept(self._claims.with_arguments(claimed))
        return bool(claimed)
