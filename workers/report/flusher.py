"""The flusher: outcomes go to Postgres in batches, as many as wait."""

import time
from collections import deque
from itertools import chain, repeat
from threading import Event, Thread
from typing import Final

import structlog

from callboard.jobs.attempts.execution import Execution
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import JOB_RETRIES, STORE_ERRORS
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.workers.execute.attempt import Attempt
from callboard.workers.fetch.slots import Slots
from callboard.workers.report.announcer import Announcer
from callboard.workers.report.tally import tally

#: Outcomes in one statement; a slot count above it only makes more statements.
_BATCH: Final = 512
#: See `_gather`. Seconds.
_GATHER_BEAT: Final = 0.001
_GATHER_BEATS: Final = 2
_RETRY_AFTER: Final = (0.1, 0.3, 1.0, 2.0)

log = structlog.get_logger(__name__)

_EVENTS: Final = {
    Verb.RETRY: "job.retried",
    Verb.SNOOZE: "job.snoozed",
    Verb.FAIL: "job.failed",
    Verb.STOP: "job.cancelled",
}


class Flusher(Thread):
    """Writes outcomes. While one batch commits, the next gathers; an idle worker's outcome is written at once.

    An outcome that cannot be written is kept, and its slot with it, until Postgres is back.
    """

    def __init__(self, execution: Execution, slots: Slots, announcer: Announcer) -> None:
        super().__init__(name="callboard-flusher", daemon=True)
        self._execution = execution
        self._announcer = announcer
        self._slots = slots
        self._waiting: deque[Attempt] = deque()
        self._some = Event()
        self._stopping = Event()

    def put(self, attempt: Attempt) -> None:
        self._waiting.append(attempt)
        if not self._some.is_set():
            self._some.set()

    def run(self) -> None:
        while not self._stopping.is_set() or self._waiting:
            self._some.wait(timeout=0.5)
            self._some.clear()
            while self._waiting:
                self._gather()
                self._flush([self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))])

    def stop(self, timeout: float) -> bool:
        """Write what waits and end; whether all of it was written within `timeout` seconds."""
        self._stopping.set()
        self._some.set()
        self.join(timeout)
        return not self.is_alive()

    def _gather(self) -> None:
        """Under load, let a batch grow: until half of what is held has ended, for two milliseconds at most."""
        for _ in range(_GATHER_BEATS):
            if len(self._waiting) * 2 >= self._slots.count() or self._stopping.is_set():
                return
            time.sleep(_GATHER_BEAT)

    def _flush(self, batch: list[Attempt]) -> None:
        returned = [attempt.job for attempt in batch if attempt.finish is None]
        ends = [attempt.finish for attempt in batch if attempt.finish is not None]
        for pause in chain(_RETRY_AFTER, repeat(_RETRY_AFTER[-1])):
            try:
                self._execution.hand_back(returned)
                returned = []
                self._write(ends, batch)
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "finish").inc()
                log.warning("flusher.waiting", reason=error.message, outcomes=len(batch))
                self._stopping.wait(pause)
                continue
            except Exception:  # whatever it was, the thread that frees slots must live
                STORE_ERRORS.labels("postgres", "refused").inc()
                log.exception("flusher.refused", outcomes=len(batch))
                self._one_by_one(batch)
            break
        self._slots.release(batch)
        tally(batch)
        self._execution.freed({attempt.job.queue for attempt in batch if attempt.job.limited})

    def _write(self, ends: list[Finish], batch: list[Attempt]) -> None:
        if not ends:
            return
        done = self._execution.finish(ends)
        self._announcer.put([end.id for end in done.values() if end.state.is_terminal])
        for attempt in batch:
            end = attempt.finish
            if end is None or end.verb is Verb.COMPLETE or end.id not in done:
                continue
            state = done[end.id].state
            if end.put_off is not None and state is JobState.SCHEDULED:
                # Told already, with the reason.
                continue
            if state is JobState.RETRYING:
                JOB_RETRIES.labels(attempt.job.queue, attempt.job.name).inc()
            log.info(
                _EVENTS[end.verb] if state is not JobState.CANCELLED else "job.cancelled",
                job_id=str(end.id), job=attempt.job.name, attempt=attempt.job.attempt,
                error=end.error.error_class if end.error else None,
                delay=end.delay.total_seconds() if end.delay else None,
            )  # fmt: skip

    def _one_by_one(self, attempts: list[Attempt]) -> None:
        """One outcome that Postgres refuses must not take the others with it: it ends as a failure that says so."""
        for attempt in attempts:
            if attempt.finish is None:
                continue
            try:
                self._execution.finish([attempt.finish])
            except Exception as error:  # noqa: BLE001 - already logged for the batch
                attempt.unwritable(error)
                self._last_word(attempt.finish)

    def _last_word(self, end: Finish) -> None:
        try:
            self._execution.finish([end])
        except Exception:  # what is left is the lease: the job is rescued when this worker ends
            log.exception("flusher.lost", job_id=str(end.id))
