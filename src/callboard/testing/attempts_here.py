"""Runs attempts in this process, with the code of the workers: threads, event loop, hooks, verdict."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread, Timer, current_thread
from typing import TYPE_CHECKING, Any, Final, Self, cast

import dramatiq

from callboard.config import log_capture
from callboard.config.logging import defer_to_host
from callboard.jobs.attempts.context import RunningJob, job_log_fields
from callboard.jobs.attempts.log_lines import LogLine
from callboard.jobs.attempts.verdict import TimedOut, Verdict
from callboard.jobs.dramatiq.broker import VIRTUAL_QUEUE
from callboard.jobs.errors import InvalidArguments
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.outcomes import Fail, Outcome
from callboard.jobs.model.states import Verb
from callboard.testing.imported_jobs import definition_of
from callboard.testing.stock_brokers import adopt
from callboard.workers.board import BoardWriter
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt import Attempt, JobKind
from callboard.workers.execute.interrupts import JobInterrupt, TimeoutInterrupt
from callboard.workers.execute.job_threads import carry_jobs_into_threads
from callboard.workers.execute.sync_runner import JobThread, JobWorker
from callboard.workers.execute.worker_broker import Runner, WorkerBroker
from callboard.workers.fetch.work_queue import WorkQueue
from callboard.workers.report.job_log_handler import JobLogHandler
from callboard.workers.report.monitor import interrupt

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: A job that caught the interrupt of its timeout is interrupted again after this time. Seconds.
_AGAIN: Final = 1.0
#: What the worker's parts get here for the time that they wait. Milliseconds.
_WORKER_TIMEOUT: Final = 500


class AttemptHere(Attempt):
    """An attempt that keeps the exception it ended with, and has its timeout without a worker's monitor."""

    error: BaseException | None = None
    _timer: Timer | None = None

    @property
    def end(self) -> Finish:
        """Return how it ended.

        Raises an error that is not about the job: Ctrl-C, a failure or skip of pytest, and InvalidArguments
        when the function does not take the arguments.
        """
        if self.error is not None and (
            isinstance(self.error, KeyboardInterrupt) or _is_of_pytest(self.error)
        ):
            raise self.error
        if self.finish is None:
            raise RuntimeError(f"the attempt at {self.job.name!r} ended without an outcome")
        if self.finish.put_off is not None:
            raise InvalidArguments(
                f"a worker cannot run the job {self.job.name!r}: {self.finish.put_off}",
                fields=getattr(self.error and self.error.__cause__, "fields", {}),
            )
        return self.finish

    @property
    def lines(self) -> list[LogLine]:
        """The lines that it logged."""
        portion = None if self.running.lines is None else self.running.lines.take()
        return [] if portion is None else portion.lines

    def begin(self, board: BoardWriter) -> None:
        super().begin(board)
        if self.deadline is not None:
            self._time(self.deadline - SYSTEM.monotonic())

    def returned(self, value: Any) -> None:
        super().returned(value)
        if issubclass(type(value), Outcome):
            self.error = value
        elif self.finish is not None and self.finish.error is not None:
            self.error = Fail(self.finish.error.message)

    def raised(self, error: BaseException) -> None:
        super().raised(error)
        self.error = error
        if isinstance(error, JobInterrupt) and self.finish is not None and self.finish.error is not None:
            self.error = TimedOut(self.finish.error.message)

    def _time(self, seconds: float) -> None:
        self._timer = Timer(max(seconds, 0.0), self._overdue)
        self._timer.daemon = True
        self._timer.start()

    def _overdue(self) -> None:
        if self.finish is None:
            interrupt(self, TimeoutInterrupt)
            self._time(_AGAIN)

    def _ended(self) -> None:
        super()._ended()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class AttemptsHere:
    """Runs attempts one at a time: sync jobs in the caller's thread, async jobs on an event loop of its own.

    A sync job in the caller's thread sees what the test has changed there, such as a database transaction
    that the test rolls back, and a debugger stops in it.

    connect: returns the platform that results and rate limiters of Dramatiq use.
    """

    def __init__(self, connect: "Callable[[], Platform]") -> None:
        draining, board = Event(), _NoBoard()
        self._broker = WorkerBroker(connect, draining, middleware=[])
        self._loop = AsyncRunner(1, board, draining, self._record, self._broker.around)
        self._worker = JobWorker(
            self._broker, WorkQueue(), board, draining, self._record, self._await_value,
            threads=1, timeout=_WORKER_TIMEOUT,
        )  # fmt: skip
        self._worker.consumers[VIRTUAL_QUEUE] = cast("Any", _Acknowledger(self._broker))
        self._thread = JobThread(self._worker, self._broker, board, draining, self._record, self._await_value)
        self._broker.serve(
            _NoConsumer(),
            lambda actor: Runner(actor, self._broker.current, board, draining, self._await_value),
        )
        self._verdict = Verdict(f"{socket.gethostname()}:{os.getpid()}")
        self._ended = Event()

    def __enter__(self) -> Self:
        defer_to_host()
        # It is undone at the exit: outside of a worker, the standard library stays as it is.
        self._starts = Thread.start, ThreadPoolExecutor.submit
        carry_jobs_into_threads()
        return self

    def __exit__(self, *_: object) -> None:
        Thread.start, ThreadPoolExecutor.submit = self._starts  # type: ignore[method-assign]
        if self._loop.ident is not None:
            self._loop.stop()

    @property
    def in_async_job(self) -> bool:
        """Whether an async job that runs here has made this call."""
        return current_thread() is self._loop

    def run(self, job: ClaimedJob, actor: "dramatiq.Actor[..., Any]", running: RunningJob) -> AttemptHere:
        """Run a claimed job to the end of its attempt."""
        adopt(self._broker)
        if self._broker.actors[actor.actor_name] is not actor:
            # A job that is given itself may have the name of an imported one.
            self._broker.take_actor(actor, actor.broker)
        attempt = AttemptHere(job, definition_of(actor), running, self._verdict, SYSTEM)
        if job.problem is not None:
            attempt.refuse(job.problem)
            return attempt
        self._ended.clear()
        with _logs_captured():
            if attempt.kind is JobKind.ASYNC:
                self._start_loop()
                self._loop.submit([attempt])
                self._ended.wait()
            else:
                self._thread.process_message(attempt)
        if attempt.finish is None and not attempt.unstarted and attempt.error is None:
            verb = Verb.STOP if attempt.began_at is None else Verb.FAIL
            attempt.finish = Finish(job.id, job.epoch, job.claim_id, verb)
        return attempt

    def _record(self, _attempt: Attempt) -> None:
        self._ended.set()

    def _await_value(self, attempt: Attempt, value: Any) -> Any:
        self._start_loop()
        return self._loop.await_value(attempt, value)

    def _start_loop(self) -> None:
        # Most tests need no event loop.
        if self._loop.ident is None:
            self._loop.start()


class _Acknowledger:
    """Stands for the consumer thread: acknowledges each message of a job with hooks or followers."""

    def __init__(self, broker: WorkerBroker) -> None:
        self._broker = broker

    def post_process_message(self, message: Any) -> None:
        self._broker.around.acknowledge(message)


class _NoConsumer(dramatiq.Consumer):
    """A consumer that is never asked: the attempts come from the test."""


class _NoBoard(BoardWriter):
    """A board without room: no supervisor reads it."""

    __slots__ = ()

    def __init__(self) -> None:
        """Make no board."""

    def put(self, *_: object, **__: object) -> int:
        return -1


def _is_of_pytest(error: BaseException | None) -> bool:
    """Return whether pytest itself raised it in the job: a skip, a failure, or the timeout of the test."""
    outcomes = sys.modules.get("_pytest.outcomes")
    return outcomes is not None and isinstance(error, (outcomes.OutcomeException, outcomes.Exit))


_captures: list[JobLogHandler] = []


@contextmanager
def _logs_captured() -> Iterator[None]:
    """Capture what jobs log, as a worker does. A run inside of a run uses the capture that there is."""
    if _captures:
        yield
        return
    _captures.append(JobLogHandler(logging.INFO, lambda _: None))
    log_capture.start(_captures[0])
    log_capture.start_structlog(job_log_fields)
    root = logging.getLogger()
    level = root.level
    # structlog asks for the root's level. A worker has this one.
    root.setLevel(min(level, logging.INFO) or logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        _captures.clear()
        log_capture.stop()
