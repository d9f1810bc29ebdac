"""The monitor: once a second it tells Postgres how far jobs have come and hears which should stop; it keeps time."""

from collections import deque
from threading import Event, Thread
from typing import Final

import structlog

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.execution import Execution
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.model.clock import Clock
from callboard.workers.board import Board
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.interrupts import CancelInterrupt, JobInterrupt, TimeoutInterrupt
from callboard.workers.fetch.slots import Slots

#: How often deadlines are looked at. Seconds.
_BEAT: Final = 0.1
#: Every so many beats: progress out, cancellations in.
_REPORT_EVERY: Final = 10
#: A job that swallowed an interrupt is interrupted again after so many seconds.
_STRIKE_AGAIN: Final = 1.0
#: How long a job may go on, in seconds, that was interrupted because its cancellation is forced.
_FORCED_AFTER: Final = 2.5

log = structlog.get_logger(__name__)


class Monitor(Thread):
    """Keeps an eye on the attempts that run in this child."""

    def __init__(self, execution: Execution, slots: Slots, board: Board, clock: Clock) -> None:
        super().__init__(name="callboard-monitor", daemon=True)
        self._execution = execution
        self._slots = slots
        self._board = board
        self._clock = clock
        self._stopping = Event()
        #: Jobs that reported since the last write.
        self._reported: deque[RunningJob] = deque()
        #: Forced cancellations, and when each job's time is up.
        self._forced: dict[Attempt, float] = {}

    def progressed(self, running: RunningJob) -> None:
        """A job has something to report that is not written yet; its newest word wins."""
        self._reported.append(running)

    def start(self) -> None:
        """Start, with a first beat at once: the next may wait for a job that keeps the interpreter."""
        self._board.beat()
        super().start()

    def run(self) -> None:
        beats = 0
        while not self._stopping.wait(_BEAT):
            self._board.beat()
            beats += 1
            try:
                self._strike_deadlines()
                if beats % _REPORT_EVERY == 0:
                    self._report()
            except (
                Exception
            ):  # without this thread there are no timeouts and no cancellations, and then no lease
                log.exception("monitor.failed")

    def stop(self) -> None:
        self._stopping.set()
        self.join(timeout=2)

    def _strike_deadlines(self) -> None:
        now = self._clock.monotonic()
        for attempt in self._slots.held():
            if attempt.deadline is not None and now > attempt.deadline:
                interrupt(attempt, TimeoutInterrupt)
                attempt.deadline = now + _STRIKE_AGAIN

    def _report(self) -> None:
        reported = [self._reported.popleft() for _ in range(len(self._reported))]
        if not self._slots.held():
            self._demand([])
            return
        # What has ended meanwhile was told by the scribe.
        words = [(job, job.reported) for job in reported if job.untold and job.reported is not None]
        reports = [Progress(job.id, job.epoch, job.claim_id, *said) for job, said in words]
        try:
            signals = self._execution.report(reports)
        except Unavailable as error:
            # What was not written now is tried again, and at the latest before the outcome.
            self._reported.extend(job for job, _ in words)
            STORE_ERRORS.labels("postgres", "report").inc()
            log.debug("monitor.waiting", reason=error.message)
            return
        for job, said in words:
            job.written(said)
        forced = []
        for asked in signals.cancel_requested:
            attempt = self._slots.find(asked.id)
            if attempt is not None and attempt.job.epoch == asked.epoch:
                attempt.running.cancel_requested = True
                interrupt(attempt, CancelInterrupt)
                if asked.forced and attempt.began_at is not None:
                    forced.append(attempt)
        self._demand(forced)

    def _demand(self, forced: list[Attempt]) -> None:
        """Have the supervisor kill this process when a job does not heed a forced cancellation."""
        if not forced and not self._forced:
            return
        until = self._clock.monotonic() + _FORCED_AFTER
        self._forced = {attempt: self._forced.get(attempt, until) for attempt in forced}
        self._board.force((attempt.job.id, deadline) for attempt, deadline in self._forced.items())


def interrupt(attempt: Attempt, reason: type[JobInterrupt]) -> bool:
    """Interrupt an attempt if it runs; whether it was."""
    send = attempt.interrupt
    if send is None or not send(reason):
        return False
    if attempt.interrupted is not reason:
        attempt.interrupted = reason
        log.info("job.interrupted", job_id=str(attempt.job.id), job=attempt.job.name, reason=reason.__name__)
    return True
