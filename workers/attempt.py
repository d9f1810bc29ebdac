"""An attempt in the hands of this process: the claimed job, its definition, and how it ended."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from prometheus_client import Counter, Histogram

from jobs.clock import Clock
from jobs.context import RunningJob
from jobs.definition import JobDefinition
from jobs.metrics import JOB_DURATION, JOB_WAIT, JOBS_FINISHED
from jobs.outcomes import Cancel, Fail
from jobs.records import ClaimedJob, Finish
from jobs.services.verdict import TimedOut, Verdict
from jobs.states import Verb
from workers.board import PutOnBoard
from workers.interrupts import CancelInterrupt, JobInterrupt, ShutdownInterrupt, TimeoutInterrupt


# Looking a series up costs more than counting in it; there are as many as there are queues and jobs.
@cache
def _wait(queue: str) -> Histogram:
    return JOB_WAIT.labels(queue)


@cache
def _duration(queue: str, job: str) -> Histogram:
    return JOB_DURATION.labels(queue, job)


@cache
def _finished(queue: str, job: str, outcome: Verb) -> Counter:
    return JOBS_FINISHED.labels(queue, job, outcome)


class Attempt:
    """One claimed job on its way through the worker. `finish` is set once it has ended."""

    __slots__ = (
        "_clock", "_off_board", "_verdict", "began_at", "claimed_at", "deadline", "definition", "finish", "interrupt",
        "job", "running", "unstarted",
    )  # fmt: skip

    def __init__(
        self, job: ClaimedJob, definition: JobDefinition, running: RunningJob, verdict: Verdict, clock: Clock
    ) -> None:
        self.job = job
        self.definition = definition
        self.running = running
        self.finish: Finish | None = None
        #: Set when the worker drains before the attempt began: it goes back as it came.
        self.unstarted = False
        #: Interrupts the attempt if it runs; set while it does.
        self.interrupt: Callable[[type[JobInterrupt]], bool] | None = None
        self.claimed_at = clock.monotonic()
        self.began_at: float | None = None
        #: Monotonic seconds at which the timeout strikes.
        self.deadline: float | None = None
        self._verdict = verdict
        self._clock = clock
        self._off_board: Callable[[], None] | None = None

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What to call the function with; raises Fail when the row's own arguments cannot be read."""
        if self.job.args is None or self.job.kwargs is None:
            raise Fail("the job's arguments cannot be read")
        return self.definition.binder.bind(self.job.args, self.job.kwargs)

    def begin(self, put_on_board: PutOnBoard) -> None:
        """The attempt starts now."""
        self._off_board = put_on_board(self.job.id)
        now = self._clock.monotonic()
        self.began_at = now
        limit = self.job.timeout or self.definition.options.timeout
        self.deadline = None if limit is None else now + limit.total_seconds()
        waited = (self.job.started_at - self.job.run_at).total_seconds() + now - self.claimed_at
        _wait(self.job.queue).observe(max(waited, 0.0))

    def returned(self, value: Any) -> None:
        self.finish = self._verdict.returned(self.job, value, self.definition.options.retry, self._now())
        self._ended()

    def raised(self, error: BaseException) -> None:
        """The attempt ended with an exception; an interrupt says what it stands for."""
        match error:
            case ShutdownInterrupt():
                self.unstarted = True
            case CancelInterrupt():
                error = Cancel("cancelled while running")
            case TimeoutInterrupt():
                limit = self.job.timeout or self.definition.options.timeout or timedelta()
                error = TimedOut(f"the attempt took longer than its timeout of {limit.total_seconds():g} s")
        if not self.unstarted:
            self.finish = self._verdict.raised(self.job, error, self.definition.options.retry, self._now())
        self._ended()

    def unwritable(self, error: Exception) -> None:
        """Postgres refuses the outcome itself: the attempt has failed for that reason."""
        reason = Fail(f"the outcome could not be stored: {type(error).__name__}")
        self.finish = self._verdict.raised(self.job, reason, self.definition.options.retry, self._now())

    def _ended(self) -> None:
        self.interrupt = None
        self.deadline = None
        if self._off_board is not None:
            self._off_board()
            self._off_board = None
        if self.finish is not None and self.began_at is not None:
            job, verb = self.job, self.finish.verb
            _finished(job.queue, job.name, verb).inc()
            _duration(job.queue, job.name).observe(self._clock.monotonic() - self.began_at)

    def _now(self) -> datetime:
        return self._clock.now()
