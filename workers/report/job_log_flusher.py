"""The thread that writes jobs' log lines, and an attempt's last lines and progress before its outcome."""

from collections import deque
from threading import Event
from typing import Any, Final

import structlog

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.job_log_writer import JobLogWriter
from callboard.jobs.attempts.log_lines import LogLines, Portion
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.outage import Outage
from callboard.jobs.watched_thread import WatchedThread, refuse_jobs
from callboard.workers.execute.attempt import Attempt
from callboard.workers.fetch.consumer import EndSink

#: How often the lines of running jobs are written. Seconds.
_WRITE_EVERY: Final = 1.0
_RETRY_AFTER: Final = 0.5

log = structlog.get_logger(__name__)


class JobLogFlusher(WatchedThread):
    """Writes the lines of running jobs once a second, and the last lines and progress of an attempt before
    its outcome.

    An attempt that has neither goes directly to the flusher. While Postgres is away, the others wait here and
    keep their slots.
    """

    def __init__(self, writer: JobLogWriter, flusher: EndSink, clock: Clock) -> None:
        super().__init__("callboard-scribe")
        self._writer = writer
        self._flusher = flusher
        self._clock = clock
        self._registered: deque[LogLines] = deque()
        self._ended: deque[Attempt] = deque()
        #: Ended attempts whose lines are being written.
        self._writing: list[Attempt] = []
        self._some = Event()
        self._stopping = Event()
        self._outage = Outage(log, "scribe.waiting", "scribe.recovered", clock=clock)

    def register(self, lines: LogLines) -> None:
        """Write these lines in the next round."""
        self._registered.append(lines)

    def put(self, attempt: Attempt) -> None:
        """Take an attempt that has ended; pass it to the flusher after its lines and progress are written."""
        running = attempt.running
        if running.lines is None and not running.unwritten:
            self._flusher.put(attempt)
            return
        self._ended.append(attempt)
        self._some.set()

    def work(self) -> None:
        # After an error that nothing handles: outcomes matter more than the last lines.
        self._pass_on()
        due = self._clock.monotonic() + _WRITE_EVERY
        while True:
            self._some.wait(max(due - self._clock.monotonic(), 0.0))
            self._some.clear()
            stopping = self._stopping.is_set()
            ended = self._writing = _take_all(self._ended)
            lines = {attempt.running.lines: None for attempt in ended if attempt.running.lines is not None}
            if stopping or self._clock.monotonic() >= due:
                lines |= dict.fromkeys(_take_all(self._registered))
                due = self._clock.monotonic() + _WRITE_EVERY
            self._write(list(lines), ended)
            self._pass_on()
            if stopping and not self._ended:
                self._writer.close()
                return

    def stop(self, timeout: float) -> None:
        """Write the waiting lines, pass on the waiting attempts, and end. Does not wait for Postgres."""
        refuse_jobs(self.name)
        self._stopping.set()
        self._some.set()
        self.join(timeout)

    def _pass_on(self) -> None:
        while self._writing:
            self._flusher.put(self._writing[0])
            del self._writing[0]

    def _write(self, lines: list[LogLines], ended: list[Attempt]) -> None:
        """Write lines and reports.

        If an attempt waits for the write, repeat it until it succeeds. Otherwise the next round tries again.
        """
        while True:
            portions = {one: portion for one in lines if (portion := one.take()) is not None}
            reported = [
                (job, job.reported) for job in (attempt.running for attempt in ended) if job.unwritten
            ]
            try:
                self._write_once(list(portions.values()), reported)
            except Unavailable as error:
                STORE_ERRORS.labels("postgres", "words").inc()
                self._outage.failed(error.message)
                if ended and not self._stopping.wait(_RETRY_AFTER):
                    continue
                self._registered.extend(portions)
                return
            except Exception:  # the attempts that wait here must end in any case
                STORE_ERRORS.labels("postgres", "refused").inc()
                log.exception("scribe.refused", attempts=len(portions))
            self._outage.over()
            for one in portions:
                one.written()
            for job, report in reported:
                job.written(report)
            return

    def _write_once(self, portions: list[Portion], reported: list[tuple[RunningJob, Any]]) -> None:
        reports = [Progress(job.id, job.epoch, job.claim_id, *report) for job, report in reported if report]
        if portions or reports:
            self._writer.write(portions, reports)


def _take_all(waiting: "deque[Any]") -> list[Any]:
    return [waiting.popleft() for _ in range(len(waiting))]
