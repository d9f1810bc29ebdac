"""The monitor: once a second it tells Postgres how far jobs have come and hears which should stop; it keeps time."""

from threading import Event, Thread
from typing import Final

import structlog

from jobs.clock import Clock
from jobs.context import RunningJob
from jobs.errors import Unavailable
from jobs.metrics import STORE_ERRORS
from jobs.repositories.progress import Progress
from jobs.services.execution import Execution
from workers.attempt import Attempt
from workers.board import Board
from workers.interrupts import CancelInterrupt, JobInterrupt, TimeoutInterrupt
from workers.slots import Slots

#: How often deadlines are looked at. Seconds.
_BEAT: Final = 0.1
#: Every so many beats: progress out, cancellations in.
_REPORT_EVERY: Final = 10

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
        self._reported: dict[object, RunningJob] = {}

    def progressed(self, running: RunningJob) -> None:
        """A job has reported progress; the newest word wins."""
        self._reported[running.id] = running

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

    def _report(self) -> None:
        if not self._slots.held():
            return
        reported, self._reported = self._reported, {}
        reports = [
            Progress(job.id, job.epoch, job.claim_id, *job.reported)
            for job in reported.values()
            if job.reported is not None
        ]
        try:
            signals = self._execution.report(reports)
        except Unavailable as error:
            # What was not written now is written with the next word, or with the outcome.
            STORE_ERRORS.labels("postgres", "report").inc()
            log.debug("monitor.waiting", reason=error.message)
            return
        for job_id, epoch in signals.cancel_requested:
            attempt = self._slots.find(job_id)
            if attempt is not None and attempt.job.epoch == epoch:
                attempt.running.cancel_requested = True
                interrupt(attempt, CancelInterrupt)


def interrupt(attempt: Attempt, reason: type[JobInterrupt]) -> bool:
    """Interrupt an attempt if it runs; whether it was."""
    send = attempt.interrupt
    if send is None or not send(reason):
        return False
    log.info("job.interrupted", job_id=str(attempt.job.id), job=attempt.job.name, reason=reason.__name__)
    return True
