"""The monitor: it checks deadlines, and once a second it writes progress and reads cancel requests."""

from collections import deque
from collections.abc import Callable
from threading import Event
from typing import Final

import structlog

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.attempts.reports import Reports
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.outage import Outage
from callboard.jobs.watched_thread import WatchedThread, refuse_jobs
from callboard.workers.board import Board
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.interrupts import CancelInterrupt, JobInterrupt, TimeoutInterrupt
from callboard.workers.fetch.slots import Slots
from callboard.workers.report.hold_watch import HoldWatch

#: How often deadlines are checked. Seconds.
_BEAT: Final = 0.1
#: Progress is written and cancel requests are read with every 10th beat.
_REPORT_EVERY: Final = 10
#: A job that caught the interrupt of its timeout is interrupted again after this time. Seconds.
_INTERRUPT_AGAIN_AFTER: Final = 1.0
#: A job whose cancel is forced has this time to end after it was interrupted. Then its process is killed.
#: Seconds.
_FORCED_AFTER: Final = 2.5

log = structlog.get_logger(__name__)


class Monitor(WatchedThread):
    """Watches the attempts that run in this child.

    check: is called with every beat.
    """

    def __init__(
        self,
        reports: Reports,
        slots: Slots,
        board: Board,
        clock: Clock,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__("callboard-monitor")
        self._reports = reports
        self._slots = slots
        self._board = board
        self._clock = clock
        #: Set before the start.
        self.holds: HoldWatch | None = None
        self._check = check
        self._stopping = Event()
        self._outage = Outage(log, "monitor.waiting", "monitor.recovered", clock=clock)
        #: The jobs that have reported progress since the last write.
        self._progressed: deque[RunningJob] = deque()
        #: The attempts whose cancel is forced, each with its deadline.
        self._forced: dict[Attempt, float] = {}

    def progressed(self, running: RunningJob) -> None:
        """Record that a job has progress to write. Only its newest report is written."""
        self._progressed.append(running)

    def start(self) -> None:
        """Start, with the first beat at once: a job that holds the GIL could delay a later beat."""
        self._board.beat()
        if self.holds is not None:
            self.holds.look(self._clock.monotonic())
        super().start()

    def work(self) -> None:
        beats = 0
        while not self._stopping.wait(_BEAT):
            self._board.beat()
            beats += 1
            try:
                self._check()
                if self.holds is not None:
                    self.holds.look(self._clock.monotonic())
                self._interrupt_overdue()
                if beats % _REPORT_EVERY == 0:
                    self._report()
            except Exception:  # without this thread: no timeouts, no cancels, and soon no lease
                log.exception("monitor.failed")

    def stop(self) -> None:
        """End the thread."""
        refuse_jobs(self.name)
        self._stopping.set()
        self.join(timeout=2)

    def _interrupt_overdue(self) -> None:
        now = self._clock.monotonic()
        for attempt in self._slots.held():
            if attempt.deadline is not None and now > attempt.deadline:
                interrupt(attempt, TimeoutInterrupt)
                attempt.deadline = now + _INTERRUPT_AGAIN_AFTER

    def _report(self) -> None:
        if self.holds is not None:
            self.holds.store(self._clock.monotonic())
        progressed = [self._progressed.popleft() for _ in range(len(self._progressed))]
        if not self._slots.held():
            self._force([])
            return
        # The progress of attempts that have ended is written by the job log flusher.
        reported = [(job, job.reported) for job in progressed if job.unwritten and job.reported is not None]
        progress = [Progress(job.id, job.epoch, job.claim_id, *report) for job, report in reported]
        try:
            requests = self._reports.report(progress)
        except Unavailable as error:
            # The progress is written with the next report, or at the latest before the outcome.
            self._progressed.extend(job for job, _ in reported)
            STORE_ERRORS.labels("postgres", "report").inc()
            self._outage.failed(error.message)
            return
        self._outage.over()
        for job, report in reported:
            job.written(report)
        forced = []
        for request in requests:
            attempt = self._slots.find(request.id)
            if attempt is not None and attempt.job.epoch == request.epoch:
                attempt.running.cancel_requested = True
                interrupt(attempt, CancelInterrupt)
                if request.forced and attempt.began_at is not None:
                    forced.append(attempt)
        self._force(forced)

    def _force(self, forced: list[Attempt]) -> None:
        """Put forced cancels on the board: the supervisor kills this process when one is overdue."""
        if not forced and not self._forced:
            return
        until = self._clock.monotonic() + _FORCED_AFTER
        self._forced = {attempt: self._forced.get(attempt, until) for attempt in forced}
        self._board.force((attempt.job.id, deadline) for attempt, deadline in self._forced.items())


def interrupt(attempt: Attempt, reason: type[JobInterrupt]) -> bool:
    """Interrupt an attempt if its function runs; return whether it was interrupted."""
    send = attempt.interrupt
    if send is None or not send(reason):
        return False
    if attempt.interrupted is not reason:
        attempt.interrupted = reason
        log.info("job.interrupted", **attempt.job.log_fields, reason=reason.__name__)
    return True
