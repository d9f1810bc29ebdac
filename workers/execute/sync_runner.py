"""Running sync attempts: Dramatiq's worker threads, the guard around the job's call, and the run itself."""

import ctypes
import sys
from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Lock, get_ident
from typing import Any, Self, cast

import dramatiq
import structlog
from dramatiq.threading import raise_thread_exception
from dramatiq.worker import WorkerThread

from callboard.jobs.attempts.context import enter, leave
from callboard.jobs.attempts.error_text import context_of
from callboard.jobs.dramatiq.broker import VIRTUAL_QUEUE, CallboardBroker
from callboard.workers.board import PutOnBoard
from callboard.workers.execute import forks
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.attempt_message import AttemptMessage
from callboard.workers.execute.interrupts import JobInterrupt
from callboard.workers.fetch.work_queue import WorkQueue

log = structlog.get_logger(__name__)


class JobWorker(dramatiq.Worker):
    """Dramatiq's worker with our work queue and our threads.

    end: is called with each attempt that has ended or was not started.
    """

    def __init__(
        self,
        broker: CallboardBroker,
        work_queue: WorkQueue,
        put_on_board: PutOnBoard,
        draining: Event,
        end: Callable[[Attempt], object],
        *,
        threads: int,
        timeout: int,
    ) -> None:
        super().__init__(broker, worker_threads=threads, worker_timeout=timeout)
        self.work_queue = cast("Any", work_queue)
        self.consumers = OneConsumer()
        self._thread_arguments = broker, put_on_board, draining, end

    def _add_worker(self) -> None:
        thread = JobThread(self, *self._thread_arguments)
        thread.start()
        self.workers.append(thread)


class OneConsumer(dict[str, Any]):
    """The consumers of a Dramatiq worker by queue name. There is one consumer, for every queue name."""

    def __missing__(self, queue_name: str) -> Any:
        if queue_name == VIRTUAL_QUEUE:
            raise KeyError(queue_name)
        return self[VIRTUAL_QUEUE]


class JobThread(WorkerThread):
    """Runs attempts.

    Dramatiq's own path is used only for attempts with middleware hooks or with jobs that follow.
    """

    def __init__(
        self,
        worker: JobWorker,
        broker: CallboardBroker,
        put_on_board: PutOnBoard,
        draining: Event,
        end: Callable[[Attempt], object],
    ) -> None:
        super().__init__(
            broker=broker,
            consumers=worker.consumers,
            work_queue=worker.work_queue,
            worker_timeout=worker.worker_timeout,
        )
        self._job_broker = broker
        self._put_on_board = put_on_board
        self._draining = draining
        self._end = end

    def process_message(self, message: Any) -> None:
        """Run an attempt, in a context of its own, and pass it on. The items of the work queue are attempts.

        What a job or its hooks set in the context, no other job sees.
        """
        copy_context().run(self._process, message)

    def _process(self, attempt: Attempt) -> None:
        if attempt.has_message_options or self._job_broker.watched:
            super().process_message(AttemptMessage(attempt))
            return
        try:
            run(attempt, self._put_on_board, self._draining)
            attempt.value = None
        except Exception:  # not the job's own error: the thread must go on, and the attempt ends as failed
            log.exception("job.not_run", job_id=str(attempt.job.id))
        finally:
            self._end(attempt)


class Guard:
    """Lets another thread interrupt the block inside `with guard:`, and no code outside of the block.

    CPython raises an asynchronous exception at the next bytecode of the thread, wherever that is. So the
    guard is armed directly inside the job's call and disarmed directly after it, under the lock that a sender
    holds. An exception that was sent and not raised by then is withdrawn. A block that caught an interrupt
    can be interrupted again.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._thread: int | None = None
        self._sent: type[JobInterrupt] | None = None

    def send(self, interrupt: type[JobInterrupt]) -> bool:
        """Interrupt the block if it runs; return whether it was interrupted.

        A block that cleans up after an earlier interrupt is not interrupted.
        """
        with self._lock:
            if self._thread is None or (self._sent is not None and _cleans_up(self._thread)):
                return False
            self._sent = interrupt
            raise_thread_exception(self._thread, interrupt)  # type: ignore[no-untyped-call]
            return True

    def __enter__(self) -> Self:
        with self._lock:
            self._thread = get_ident()
        return self

    def __exit__(self, *_: object) -> None:
        self.disarm()

    def disarm(self) -> None:
        """Let no further interrupt through.

        Call it again after an interrupt was raised inside this method.
        """
        with self._lock:
            if self._thread is not None and self._sent is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
            self._thread = None


def _cleans_up(thread: int) -> bool:
    """Return whether a thread is in an `except` or `finally` block that an interrupt led to."""
    handled: Any = sys._current_exceptions().get(thread)  # noqa: SLF001 - documented, despite its name
    # A triple up to Python 3.11.
    error: BaseException | None = handled[1] if isinstance(handled, tuple) else handled
    seen: set[int] = set()
    # A job may have made a circle of causes.
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if issubclass(type(error), JobInterrupt):
            return True
        error = context_of(error)
    return False


def run(attempt: Attempt, put_on_board: PutOnBoard, draining: Event) -> BaseException | None:
    """Run the attempt to its end in this thread; return what the job raised."""
    if draining.is_set():
        attempt.unstarted = True
        return None
    attempt.begin(put_on_board)
    guard = Guard()
    try:
        try:
            value = _call(attempt, guard)
        except JobInterrupt:
            # An interrupt may have been raised while the guard was being disarmed.
            guard.disarm()
            raise
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is the end of its attempt
        if forks.PROCESS.is_copy:
            forks.exit_copy(error)
        attempt.raised(error)
        return error
    if forks.PROCESS.is_copy:
        forks.exit_copy()
    attempt.returned(value)
    return None


def _call(attempt: Attempt, guard: Guard) -> Any:
    args, kwargs = attempt.arguments()
    token = enter(attempt.running)
    try:
        attempt.interrupt = guard.send
        with guard:
            return attempt.definition.call(*args, **kwargs)
    finally:
        attempt.interrupt = None
        leave(token)
