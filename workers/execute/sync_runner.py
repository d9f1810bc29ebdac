"""Running sync attempts: Dramatiq's worker threads, the guard around the job's call, and the run itself."""

import ctypes
from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Lock, Thread, get_ident
from typing import Any, Final, Self, cast
from uuid import UUID

import dramatiq
from dramatiq.threading import raise_thread_exception
from dramatiq.worker import WorkerThread

from callboard.jobs.dramatiq.broker import VIRTUAL_QUEUE, CallboardBroker
from callboard.jobs.model.current import enter, leave
from callboard.jobs.watched_thread import refuse_jobs, report_failure
from callboard.workers.board import BoardWriter
from callboard.workers.execute import forks
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.attempt_message import AttemptMessage
from callboard.workers.execute.awaitables import is_awaitable
from callboard.workers.execute.interrupts import RAISED_IN, JobInterrupt, cleans_up
from callboard.workers.fetch.work_queue import OneConsumer, WorkQueue

#: Awaits on the worker's loop what a sync job returned.
AwaitValue = Callable[[Attempt, Any], Any]

#: Stands for the value of a function that has not returned.
_NOTHING: Final = object()


class JobWorker(dramatiq.Worker):
    """Dramatiq's worker with our work queue and our threads.

    end: is called with each attempt that has ended or was not started.
    """

    def __init__(
        self,
        broker: CallboardBroker,
        work_queue: WorkQueue,
        board_writer: BoardWriter,
        draining: Event,
        end: Callable[[Attempt], object],
        await_value: "AwaitValue",
        *,
        threads: int,
        timeout: int,
    ) -> None:
        super().__init__(broker, worker_threads=threads, worker_timeout=timeout)
        self.work_queue = cast("Any", work_queue)
        self.consumers = OneConsumer()
        self._thread_arguments = broker, board_writer, draining, end, await_value
        self._stopping = False

    def stop(self, timeout: int = 600_000) -> None:
        self._stopping = True
        super().stop(timeout)

    def _add_consumer(self, queue_name: str, *, delay: bool = False) -> None:
        """Start the consumer of the virtual queue, which takes the jobs of all queues."""
        if queue_name == VIRTUAL_QUEUE:
            super()._add_consumer(queue_name, delay=delay)

    def _add_worker(self) -> None:
        thread = JobThread(self, *self._thread_arguments)
        thread.start()
        self.workers.append(thread)

    def job_threads(self) -> "list[JobThread]":
        """Return the threads that run jobs."""
        return [thread for thread in self.workers if isinstance(thread, JobThread)]

    def has_lost_consumer(self) -> bool:
        """Return whether the thread that claims jobs has ended, or pauses, without being asked to."""
        return not self._stopping and any(one.paused or _has_ended(one) for one in self.consumers.values())

    def replace_dead_threads(self) -> None:
        """Start a new thread for each thread of sync jobs that ended without being asked to."""
        for thread in [] if self._stopping else list(filter(_has_ended, self.workers)):
            report_failure(thread.name, RuntimeError("the thread ended"))
            self.workers.remove(thread)
            self._add_worker()


def _has_ended(thread: Thread) -> bool:
    # Its `running` says nothing: a job can set it.
    return thread.ident is not None and not thread.is_alive()


class JobThread(WorkerThread):
    """Runs attempts.

    Dramatiq's own path is used only for attempts with middleware hooks or with jobs that follow.
    """

    def __init__(
        self,
        worker: JobWorker,
        broker: CallboardBroker,
        board_writer: BoardWriter,
        draining: Event,
        end: Callable[[Attempt], object],
        await_value: "AwaitValue",
    ) -> None:
        super().__init__(
            broker=broker,
            consumers=worker.consumers,
            work_queue=worker.work_queue,
            worker_timeout=worker.worker_timeout,
        )
        self._job_broker = broker
        self._board_writer = board_writer
        self._draining = draining
        self._end = end
        self._await_value = await_value
        self.name = "callboard-job"
        #: The job that this thread runs, or ran last.
        self.job_id: UUID | None = None

    def pause(self) -> None:
        refuse_jobs(self.name)
        super().pause()

    def stop(self) -> None:
        refuse_jobs(self.name)
        super().stop()

    def process_message(self, message: Any) -> None:
        """Run an attempt, in a context of its own, and pass it on. The items of the work queue are attempts.

        What a job or its hooks set in the context, no other job sees.
        """
        copy_context().run(self._process, message)

    def _process(self, attempt: Attempt) -> None:
        self.job_id = attempt.job.id
        try:
            if attempt.has_message_options or self._job_broker.watched:
                super().process_message(AttemptMessage(attempt))
                return
            try:
                run(attempt, self._board_writer, self._draining, self._await_value)
                attempt.value = None
            finally:
                self._end(attempt)
        except BaseException as error:  # noqa: BLE001 - not the job's own error: the thread must go on
            if forks.PROCESS.is_copy:
                forks.exit_copy(error)
            report_failure(self.name, error)
        finally:
            self.paused = False


class _FlagCleared(BaseException):
    """Clears CPython's flag that an exception is pending. It goes no further than `disarm`."""


_FLAG_CLEARED: Final = ctypes.py_object(_FlagCleared)


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
        #: The interrupts that were raised in the thread, in their order.
        self.raised: list[JobInterrupt] = []

    def send(self, interrupt: type[JobInterrupt]) -> bool:
        """Interrupt the block if it runs; return whether it was interrupted.

        A block that cleans up after an earlier interrupt is not interrupted.
        """
        with self._lock:
            if self._thread is None or (self._sent is not None and cleans_up(self._thread)):
                return False
            self._sent = interrupt
            RAISED_IN[self._thread] = self.raised
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
                thread = ctypes.c_ulong(self._thread)
                # A withdrawal leaves CPython's flag set that an exception is pending. With it, a thread with
                # a trace or profile function hangs for ever. Only an exception that is raised clears it.
                try:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, _FLAG_CLEARED)
                    for _ in range(2):
                        pass
                except _FlagCleared:
                    pass
                RAISED_IN.pop(self._thread, None)
            self._thread = None


def run(
    attempt: Attempt, board_writer: BoardWriter, draining: Event, await_value: AwaitValue
) -> BaseException | None:
    """Run the attempt to its end in this thread; return what the job raised."""
    if draining.is_set():
        attempt.unstarted = True
        return None
    attempt.begin(board_writer)
    guard = Guard()
    try:
        value = _call(attempt, guard, await_value)
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is the end of its attempt
        if forks.PROCESS.is_copy:
            forks.exit_copy(error)
        _note(attempt, guard)
        return attempt.conclude(None, error)
    if forks.PROCESS.is_copy:
        forks.exit_copy()
    if not guard.raised and attempt.raised_inside is None:
        attempt.returned(value)
        return None
    _note(attempt, guard)
    return attempt.conclude(value, None)


def _call(attempt: Attempt, guard: Guard, await_value: AwaitValue) -> Any:
    args, kwargs = attempt.arguments()
    token = enter(attempt.running)
    value: Any = _NOTHING
    own: BaseException | None = None
    try:
        attempt.interrupt = guard.send
        try:
            with guard:
                value = attempt.definition.call(*args, **kwargs)
        except JobInterrupt as interrupt:
            # It may have been raised while the guard was being disarmed.
            guard.disarm()
            own = interrupt.__context__ if _is_outside(interrupt) else None
            if value is _NOTHING and own is None:
                raise
            # The function had ended before: its end stands.
            guard.raised.remove(interrupt)
        if value is _NOTHING and own is not None:
            raise own
        kind = type(value)
        # The usual results need no look.
        if not (value is None or kind is dict or kind is int or kind is str) and is_awaitable(value):
            value = await_value(attempt, value)
        return value
    finally:
        attempt.interrupt = None
        leave(attempt.running, token)


def _is_outside(interrupt: JobInterrupt) -> bool:
    """Return whether an interrupt was raised in the code around the job's function, not in the function."""
    place = interrupt.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_code in _AROUND


def _note(attempt: Attempt, guard: Guard) -> None:
    for interrupt in guard.raised:
        attempt.note_interrupt(type(interrupt))
    guard.raised.clear()


#: The code around a job's function in which an interrupt may be raised.
_AROUND: Final = {
    _call.__code__,
    Guard.__enter__.__code__,
    Guard.__exit__.__code__,
    Guard.disarm.__code__,
}
