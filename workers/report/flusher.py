"""The flusher writes outcomes to Postgres in batches, and the announcer publishes the jobs that have
finished.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from threading import Event, Thread
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.attempts.ends import Ends
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import JOB_DURATION, JOB_RETRIES, JOB_WAIT, JOBS_FINISHED, STORE_ERRORS
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.redis.transport import Transport
from callboard.workers.execute.attempt import Attempt
from callboard.workers.fetch.slots import Slots

#: The maximum number of outcomes in one statement.
_BATCH: Final = 512
#: The flusher waits this often and this long for a batch to grow, see `_gather`. Seconds.
_GATHER_PAUSES: Final = 2
_GATHER_PAUSE: Final = 0.001
_RETRY_AFTER: Final = (0.1, 0.3, 1.0, 2.0)
#: The pause between two announcements under load, with listeners and without. The first after a pause is sent
#: at once. Seconds.
_ANNOUNCE_PAUSE: Final = 0.005
_ANNOUNCE_PAUSE_UNHEARD: Final = 0.1
_ANNOUNCE_BATCH: Final = 1_000

log = structlog.get_logger(__name__)

_EVENTS: Final = {
    Verb.RETRY: "job.retried",
    Verb.SNOOZE: "job.snoozed",
    Verb.FAIL: "job.failed",
    Verb.STOP: "job.cancelled",
}


class Flusher(Thread):
    """Writes outcomes.

    While one batch commits, the next gathers; an idle worker's outcome is written at once.

    While Postgres is away, outcomes are kept and tried again. Their slots stay taken.

    prepare: is called before each batch.
    """

    def __init__(
        self, ends: Ends, slots: Slots, announcer: "Announcer", prepare: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(name="callboard-flusher", daemon=True)
        self._prepare = prepare
        self._ends = ends
        self._announcer = announcer
        self._slots = slots
        self._waiting: deque[Attempt] = deque()
        self._some = Event()
        self._stopping = Event()

    def put(self, attempt: Attempt) -> None:
        """Write the outcome of an attempt soon, or hand its job back if it was not started."""
        self._waiting.append(attempt)
        if not self._some.is_set():
            self._some.set()

    def run(self) -> None:
        while not self._stopping.is_set() or self._waiting:
            self._some.wait(timeout=0.5)
            self._some.clear()
            while self._waiting:
                self._gather()
                self._prepare()
                self._flush([self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))])

    def stop(self, timeout: float) -> bool:
        """Write the waiting outcomes and end; return whether all were written within `timeout` seconds."""
        self._stopping.set()
        self._some.set()
        self.join(timeout)
        return not self.is_alive()

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
        ends = [attempt.finish for attempt in batch if attempt.finish is not None]
        for pause in chain(_RETRY_AFTER, repeat(_RETRY_AFTER[-1])):
            try:
                self._ends.hand_back(unstarted)
                unstarted = []
                self._write(ends, batch)
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "finish").inc()
                log.warning("flusher.waiting", reason=error.message, outcomes=len(batch))
                self._stopping.wait(pause)
                continue
            except Exception:  # the thread must go on, because it frees the slots
                STORE_ERRORS.labels("postgres", "refused").inc()
                log.exception("flusher.refused", outcomes=len(batch))
                self._write_one_by_one(batch)
            break
        self._slots.ended.extend([attempt.job.name for attempt in batch])
        self._slots.release(batch)
        count_ends(batch)
        self._ends.notify_freed({attempt.job.queue for attempt in batch if attempt.job.limited})

    def _write(self, ends: list[Finish], batch: list[Attempt]) -> None:
        if not ends:
            return
        done = self._ends.finish(ends)
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
            log.info(
                _EVENTS[end.verb] if state is not JobState.CANCELLED else "job.cancelled",
                job_id=str(end.id), job=attempt.job.name, attempt=attempt.job.attempt,
                error=end.error.error_class if end.error else None,
                delay=end.delay.total_seconds() if end.delay else None,
            )  # fmt: skip

    def _write_one_by_one(self, attempts: list[Attempt]) -> None:
        """Write each outcome alone after Postgres refused the batch.

        One that is refused again becomes a failure.
        """
        for attempt in attempts:
            if attempt.finish is None:
                continue
            try:
                self._write_alone(attempt.finish)
            except Exception as error:  # noqa: BLE001 - logged for the batch
                attempt.unwritable(error)
                self._write_failure(attempt.finish)

    def _write_alone(self, end: Finish) -> None:
        """Write an outcome. An outage does not make it a failure: it is written when Postgres is back."""
        for pause in chain(_RETRY_AFTER, repeat(_RETRY_AFTER[-1])):
            try:
                self._ends.finish([end])
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "finish").inc()
                log.warning("flusher.waiting", reason=error.message, outcomes=1)
                self._stopping.wait(pause)
            else:
                return

    def _write_failure(self, end: Finish) -> None:
        try:
            self._write_alone(end)
        except Exception:  # the job stays running until this worker's lease ends, and is rescued then
            log.exception("flusher.lost", job_id=str(end.id))


class Announcer(Thread):
    """Publishes finished jobs for waiting callers, in its own thread: the flusher does not wait for Redis.

    An announcement that cannot be published is dropped. Waiting callers read their job once a second anyway.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__(name="callboard-announcer", daemon=True)
        self._transport = transport
        self._waiting: deque[UUID] = deque(maxlen=10 * _ANNOUNCE_BATCH)
        self._some = Event()
        self._stopping = Event()

    def put(self, finished: Sequence[UUID]) -> None:
        """Announce these jobs soon."""
        if finished:
            self._waiting.extend(finished)
            self._some.set()

    def run(self) -> None:
        while not self._stopping.is_set() or self._waiting:
            self._some.wait(timeout=0.5)
            self._some.clear()
            while self._waiting:
                heard = self._publish()
                self._stopping.wait(_ANNOUNCE_PAUSE if heard else _ANNOUNCE_PAUSE_UNHEARD)

    def stop(self) -> None:
        """Publish the waiting announcements, and end."""
        self._stopping.set()
        self._some.set()
        self.join(timeout=2)

    def _publish(self) -> bool:
        """Publish one batch; return whether there was a listener.

        Without listeners all announcements are dropped: a new listener reads its job first.
        """
        try:
            if not self._transport.listened_to():
                self._waiting.clear()
                return False
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _ANNOUNCE_BATCH))]
            return self._transport.announce(batch) > 0
        except Unavailable:
            STORE_ERRORS.labels("redis", "announce").inc()
            self._waiting.clear()
            return False


def count_ends(attempts: Iterable[Attempt]) -> None:
    """Count attempts whose ends were written. Attempts that did not start are not counted.

    They are grouped first, because looking up a series costs more than counting in it.
    """
    groups: defaultdict[tuple[str, str, Verb], list[tuple[Attempt, float]]] = defaultdict(list)
    for attempt in attempts:
        began, finish, job = attempt.began_at, attempt.finish, attempt.job
        if began is not None and finish is not None:
            groups[job.queue, job.name, finish.verb].append((attempt, began))
    for (queue, name, verb), ended in groups.items():
        JOBS_FINISHED.labels(queue, name, verb).inc(len(ended))
        JOB_DURATION.labels(queue, name).observe_many([one.ended_at - began for one, began in ended])
        JOB_WAIT.labels(queue).observe_many([_start_delay(one, began) for one, began in ended])


def _start_delay(attempt: Attempt, began: float) -> float:
    """Return the seconds from when the job was due to its start.

    Up to the claim they are measured by the database's clock, from then on by this machine's.
    """
    job = attempt.job
    return max((job.started_at - job.run_at).total_seconds() + began - attempt.claimed_at, 0.0)
