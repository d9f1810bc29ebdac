"""The flusher writes outcomes to Postgres in batches."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import chain, repeat
from threading import Event
from typing import Final, Protocol
from uuid import UUID

import structlog

from callboard.jobs.attempts.ends import Ends
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import JOB_RETRIES, STORE_ERRORS
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.pauses import Pauses
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.outage import Outage
from callboard.jobs.watched_thread import WatchedThread, refuse_jobs
from callboard.workers.execute.attempt import Attempt
from callboard.workers.fetch.slots import Slots
from callboard.workers.report.announcer import Announcer
from callboard.workers.report.end_counts import count_ends
from callboard.workers.report.end_log import log_end

#: The maximum number of outcomes in one statement.
_BATCH: Final = 512
#: The flusher waits this often and this long for a batch to grow, see `_gather`. Seconds.
_GATHER_PAUSES: Final = 2
_GATHER_PAUSE: Final = 0.001
_RETRY_AFTER: Final = (0.1, 0.3, 1.0, 2.0)

log = structlog.get_logger(__name__)


class Successors(Protocol):
    """Takes the jobs that get the places of ended jobs in limited queues."""

    def accepting(self) -> AbstractContextManager[bool]:
        """Yield whether jobs may be claimed within the block."""
        ...

    def accept(self, claimed: list[ClaimedJob]) -> None:
        """Run these jobs."""
        ...


class Flusher(WatchedThread):
    """Writes outcomes.

    While one batch commits, the next gathers; an idle worker's outcome is written at once.

    While Postgres is away, outcomes are kept and tried again. Their slots stay taken.

    An outcome that Postgres refuses is written without what it may have been refused for. If that is refused
    as well, it is set aside and tried again with growing pauses: its job must neither run again nor stay
    running for ever. The others do not wait for it.

    prepare: is called before each batch.
    """

    def __init__(
        self, ends: Ends, slots: Slots, announcer: Announcer, prepare: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__("callboard-flusher")
        self._prepare = prepare
        self._ends = ends
        self._announcer = announcer
        self._slots = slots
        self._waiting: deque[Attempt] = deque()
        #: The batch that is being written. It is written again after an error that nothing handles.
        self._batch: list[Attempt] = []
        self._some = Event()
        self._stopping = Event()
        #: What Postgres refuses, by the job's claim.
        self._refused: dict[UUID, Attempt] = {}
        self._pauses: Pauses[UUID] = Pauses(SYSTEM)
        self._outage = Outage(log, "flusher.waiting", "flusher.recovered")
        #: None: no jobs are claimed here.
        self.successors: Successors | None = None

    def put(self, attempt: Attempt) -> None:
        """Write the outcome of an attempt soon, or hand its job back if it was not started."""
        self._waiting.append(attempt)
        if not self._some.is_set():
            self._some.set()

    def work(self) -> None:
        while not self._stopping.is_set() or self._waiting or self._batch:
            if not self._batch:
                self._some.wait(timeout=0.5)
            self._some.clear()
            while self._waiting or self._batch:
                if not self._batch:
                    self._gather()
                    size = min(len(self._waiting), _BATCH)
                    self._batch = [self._waiting.popleft() for _ in range(size)]
                self._prepare()
                self._flush(self._batch)
                self._batch = []
            if self._refused:
                self._write_refused()

    def stop(self, timeout: float) -> bool:
        """Write the waiting outcomes and end; return whether all were written within `timeout` seconds."""
        refuse_jobs(self.name)
        self._stopping.set()
        self._some.set()
        self.join(timeout)
        return not self.is_alive() and not self._refused

    def _gather(self) -> None:
        """Let a batch grow under load: until half of the held attempts
        have ended, at most two milliseconds.
        """
        for _ in range(_GATHER_PAUSES):
            if len(self._waiting) * 2 >= self._slots.count() or self._stopping.is_set():
                return
            time.sleep(_GATHER_PAUSE)

    def _flush(self, batch: list[Attempt]) -> None:
        unstarted = [attempt.job for attempt in batch if attempt.finish is None]
        for pause in chain(_RETRY_AFTER, repeat(_RETRY_AFTER[-1])):
            try:
                self._ends.hand_back(unstarted)
                unstarted = []
                self._end(batch)
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "finish").inc()
                self._outage.failed(error.message, outcomes=len(batch))
                self._pause(pause)
                continue
            except Exception:  # the thread must go on, because it frees the slots
                STORE_ERRORS.labels("postgres", "refused").inc()
                log.exception("flusher.refused", outcomes=len(batch))
                written = self._write_one_by_one(batch)
                self._ended(written, _limited(written))
            break
        self._outage.over()

    def _end(self, batch: list[Attempt]) -> None:
        """Write the ends of a batch and free its slots. For jobs of limited queues, claim the next ones."""
        ends = [attempt.finish for attempt in batch if attempt.finish is not None]
        limited = _limited(batch)
        if not limited or self.successors is None:
            self._write(ends, batch)
            self._ended(batch, limited)
            return
        with self.successors.accepting() as may_claim:
            if not may_claim:
                self._write(ends, batch)
                self._ended(batch, limited)
                return
            found = self._ends.finish_and_claim(
                ends,
                {attempt.job.id: attempt.job.queue for attempt in batch if attempt.job.limited},
                self._slots.room_without(batch),
            )
            self._slots.release(batch)
            if found.claimed:
                self.successors.accept(found.claimed)
        # Everything else can wait until the next jobs run.
        self._ends.correct_tokens(found.handed_on)
        self._written(batch, found.done)
        self._count(batch, found.free)

    def _ended(self, batch: list[Attempt], free: Collection[str]) -> None:
        """Free the slots of attempts whose ends are written, and count them.

        free: the limited queues of which a place is free now.
        """
        self._slots.release(batch)
        self._count(batch, free)

    def _count(self, batch: list[Attempt], free: Collection[str]) -> None:
        self._slots.ended.extend([attempt.job.name for attempt in batch])
        count_ends(batch)
        self._ends.notify_freed(free)

    def _write(self, ends: list[Finish], batch: list[Attempt]) -> None:
        if ends:
            self._written(batch, self._ends.finish(ends))

    def _written(self, batch: list[Attempt], done: Mapping[UUID, Finished]) -> None:
        """Announce and log the ends of a batch."""
        self._announcer.put([end.id for end in done.values() if end.state.is_terminal])
        for attempt in batch:
            end = attempt.finish
            if end is None or end.verb is Verb.COMPLETE or end.id not in done:
                continue
            state = done[end.id].state
            if end.put_off is not None and state is JobState.SCHEDULED:
                # `put_off` has logged it with the reason.
                continue
            if state is JobState.RETRYING:
                JOB_RETRIES.labels(attempt.job.queue, attempt.job.name).inc()
            log_end(attempt, end, state)

    def _write_one_by_one(self, attempts: list[Attempt]) -> list[Attempt]:
        """Write each outcome alone after Postgres refused the batch; return those that were written."""
        written = []
        for attempt in attempts:
            try:
                self._write_alone(attempt)
            except Exception as error:  # noqa: BLE001 - logged for the batch
                if self._write_bare(attempt, error):
                    written.append(attempt)
            else:
                written.append(attempt)
        return written

    def _write_alone(self, attempt: Attempt) -> None:
        """Write an outcome, or hand a job back. An outage is waited for: it is no refusal."""
        for pause in chain(_RETRY_AFTER, repeat(_RETRY_AFTER[-1])):
            try:
                if attempt.finish is None:
                    self._ends.hand_back([attempt.job])
                else:
                    self._write([attempt.finish], [attempt])
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "finish").inc()
                self._outage.failed(error.message, outcomes=1)
                self._pause(pause)
            else:
                return

    def _pause(self, seconds: float) -> None:
        """Wait before the next try: briefly when the worker stops."""
        if self._stopping.wait(seconds):
            time.sleep(_RETRY_AFTER[0])

    def _write_bare(self, attempt: Attempt, error: Exception) -> bool:
        """Write a refused outcome without what it may have been refused for; return whether it was written.

        If not, the attempt is set aside and keeps its slot.
        """
        attempt.unwritable(error)
        try:
            self._write_alone(attempt)
        except Exception:  # Postgres may refuse anything, for example by a trigger or a missing right
            log.exception("flusher.set_aside", **attempt.job.log_fields)
            self._refused[attempt.job.claim_id] = attempt
            self._pauses.failed(attempt.job.claim_id)
            return False
        return True

    def _write_refused(self) -> None:
        """Try once more to write what was set aside and whose pause is over; at the end, all of it."""
        waiting = () if self._stopping.is_set() else self._pauses.waiting()
        for claim, attempt in list(self._refused.items()):
            if claim in waiting:
                continue
            try:
                self._write_alone(attempt)
            except Exception as error:  # noqa: BLE001 - as above; its traceback was logged the first time
                log.error(  # noqa: TRY400
                    "flusher.still_refused", **attempt.job.log_fields, error=type(error).__name__
                )
                self._pauses.failed(claim)
            else:
                self._pauses.worked(claim)
                del self._refused[claim]
                self._ended([attempt], _limited([attempt]))


def _limited(attempts: Iterable[Attempt]) -> set[str]:
    """Return the limited queues of these attempts."""
    return {attempt.job.queue for attempt in attempts if attempt.job.limited}
