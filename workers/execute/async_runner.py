"""Running async attempts: tasks on one event loop, which runs in a thread of its own."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from functools import partial
from threading import Event
from typing import Any, Final

from callboard.jobs.model.current import enter, leave, running_here
from callboard.jobs.watched_thread import WatchedThread, refuse_jobs
from callboard.workers.board import BoardWriter
from callboard.workers.execute import forks
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.attempt_message import AttemptMessage
from callboard.workers.execute.awaitables import awaited, is_awaitable
from callboard.workers.execute.hook_threads import HookThreads
from callboard.workers.execute.hooks import Hooks
from callboard.workers.execute.off_loop import off_loop
from callboard.workers.execute.shared_loop import HookedTask, Interruption, LoopEnded, SharedLoop

#: Jobs can make the loop fail, and it goes on each time. So it may fail often. Within a minute.
_MOST_FAILURES: Final = 1_000
#: How often a caller looks for the new loop after a job closed the old one. Seconds.
_CLOSED_PAUSE: Final = 0.001


class AsyncRunner(WatchedThread):
    """The thread of the event loop.

    at_once: how many attempts run at the same time. Further ones wait.
    done:    is called in the loop's thread with each attempt that has ended.

    The end of an attempt is taken from its task, so every task that ends gives one end, however it ends. A
    task that exits, or code that stops the loop, does not end the thread: the loop goes on with all its
    tasks.
    """

    def __init__(
        self,
        at_once: int,
        board_writer: BoardWriter,
        draining: Event,
        done: Callable[[Attempt], None],
        around: Hooks,
    ) -> None:
        super().__init__("callboard-async", most_failures=_MOST_FAILURES)
        self._at_once = at_once
        self._waiting: deque[Attempt] = deque()
        self._board_writer = board_writer
        self._draining = draining
        self._done = done
        self._around = around
        self._loop = SharedLoop()
        self._hook_threads = HookThreads()
        self._stopping = False
        #: When `unanswered` asked the loop for a sign of life that has not come.
        self.asked_at: float | None = None
        # asyncio keeps weak references only: without these a running task could be garbage-collected.
        self._running: dict[asyncio.Task[None], tuple[Attempt, Interruption]] = {}
        #: The tasks that await what a sync job returned. The job's thread waits for the future.
        self._values: dict[asyncio.Task[Any], tuple[Attempt, Future[Any]]] = {}

    def work(self) -> None:
        if self._loop.is_closed():
            self._replace_loop()
        self.asked_at = None
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._begin)
        try:
            self._loop.run_forever()
        except BaseException as error:
            if forks.PROCESS.is_copy:
                forks.exit_copy(error)
            raise
        if not self._stopping:
            raise LoopEnded("the event loop was stopped by a job")

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Run these attempts. The loop is woken once for all of them."""
        self._waiting.extend(attempts)
        self._wake(self._begin)

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that runs now."""
        return self._loop

    def take_back(self) -> list[Attempt]:
        """Remove and return the attempts that have not started."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.popleft())
        return taken

    def await_value(self, attempt: Attempt, value: Any) -> Any:
        """Await what a sync job returned, on the loop; return its result, or raise its error.

        Called in the job's thread, which waits. Interrupts of the attempt cancel the task.
        """
        ended: Future[Any] = Future()
        interruption = Interruption(self._loop)
        # The callback, and the task that it starts, get a copy of this thread's context.
        self._wake(self._begin_value, attempt, value, interruption, ended)
        try:
            return ended.result()
        except asyncio.CancelledError:
            if interruption.reason is not None:
                raise interruption.reason from None
            raise
        finally:
            attempt.interrupt = None
            attempt.note_interrupt(interruption.reason)

    def unanswered(self, now: float) -> float:
        """Return for how many seconds the loop has not answered; 0 when it has.

        It is asked by this call, while tasks run. So call this often.
        """
        if self.asked_at is not None:
            return now - self.asked_at
        if self._running or self._values or self._waiting:
            self.asked_at = now
            self._wake(self._answer)
        return 0.0

    def current(self) -> Attempt | None:
        """Return the attempt whose code the loop runs now; None when it is not known.

        Callable from other threads.
        """
        task = asyncio.current_task(self._loop)
        if task is None:
            return None
        if task in self._running:
            return self._running[task][0]
        if task in self._values:
            return self._values[task][0]
        # A task that a job started. It has a copy of the job's context; Python 3.11 does not show it.
        context: Mapping[Any, Any] = getattr(task, "get_context", dict)()
        running = context.get(running_here)
        return next((one for one, _ in list(self._running.values()) if one.running is running), None)

    def stop(self) -> None:
        refuse_jobs(self.name)
        self._stopping = True
        self._wake(self._loop.end)
        self.join(timeout=2)

    def _wake(self, callback: Callable[..., object], *arguments: Any) -> None:
        # The loop is closed only for a moment, until `work` has replaced it.
        while True:
            try:
                self._loop.call_soon_threadsafe(callback, *arguments)
            except RuntimeError:
                if not self._loop.is_closed() or not self.is_alive():
                    raise
                time.sleep(_CLOSED_PAUSE)
            else:
                return

    def _answer(self) -> None:
        self.asked_at = None

    def _begin(self) -> None:
        with suppress(IndexError):
            while len(self._running) < self._at_once:
                attempt = self._waiting.popleft()
                interruption = Interruption(self._loop)
                # In an empty context: what submitted the attempt, or ran before it, must not be seen by it.
                context = Context()
                kind = HookedTask if self._around.may_block else asyncio.Task
                task = self._loop.start_task(self._run(attempt, interruption, context), context, kind)
                interruption.task = task
                self._running[task] = attempt, interruption
                task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Pass on the attempt of a task, whatever ended the task."""
        attempt, interruption = self._running.pop(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        try:
            if attempt.finish is None and not attempt.unstarted:
                # It was cancelled before its first step, or an error came from outside the job's function.
                attempt.note_interrupt(interruption.reason)
                outcome = LoopEnded("it ended without an outcome") if error is None else error
                attempt.conclude(None, outcome)
        finally:
            self._done(attempt)
            if self._waiting:
                self._begin()

    def _begin_value(
        self, attempt: Attempt, value: Any, interruption: Interruption, ended: "Future[Any]"
    ) -> None:
        task = self._loop.start_task(awaited(value, interruption.end_task))
        interruption.task = task
        attempt.interrupt = interruption.send
        self._values[task] = attempt, ended
        task.add_done_callback(self._value_ended)

    def _value_ended(self, task: "asyncio.Task[Any]") -> None:
        _, ended = self._values.pop(task)
        if task.cancelled():
            ended.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            ended.set_exception(error)
        else:
            ended.set_result(task.result())

    async def _run(self, attempt: Attempt, interruption: Interruption, context: Context) -> None:
        try:
            if self._draining.is_set():
                attempt.unstarted = True
            elif self._around.concern(attempt):
                await self._with_hooks(attempt, interruption, context)
            else:
                await self._attempt(attempt, interruption)
                # The value's own code, such as `__del__`, must not run in the thread that stores the outcome.
                attempt.value = None
        finally:
            interruption.end_task()

    async def _with_hooks(self, attempt: Attempt, interruption: Interruption, context: Context) -> None:
        """Run the attempt with the middleware hooks around it, in the order of Dramatiq's threads."""
        around, message = self._around, AttemptMessage(attempt)
        thread = self._hook_threads.take() if isinstance(interruption.task, HookedTask) else None
        try:
            before = partial(around.refusal, message)
            error = before() if thread is None else await thread.call(before, context)
            if error is None and not message.failed:
                error = await self._attempt(attempt, interruption)
            after = partial(around.conclude, message, error)
            if thread is None:
                after()
            else:
                interruption.end()
                await thread.call(after, context)
        finally:
            if thread is not None:
                self._hook_threads.give_back(thread)

    async def _attempt(self, attempt: Attempt, interruption: Interruption) -> BaseException | None:
        """Run the attempt to its end; return what the job raised."""
        attempt.begin(self._board_writer)
        try:
            args, kwargs = attempt.arguments()
            token = enter(attempt.running)
            attempt.interrupt = interruption.send
            try:
                value = await attempt.definition.call(*args, **kwargs)
                if value is not None and is_awaitable(value):
                    value = await value
            finally:
                leave(attempt.running, token)
            if forks.PROCESS.is_copy:
                forks.exit_copy()
        except BaseException as error:  # noqa: BLE001 - whatever a job raises is the end of its attempt
            if forks.PROCESS.is_copy:
                forks.exit_copy(error)
            interruption.withdraw()
            attempt.note_interrupt(interruption.reason)
            if interruption.in_task() and attempt.may_run_code_of(error):
                return await self._record_off_loop(attempt, None, error, interruption)
            return attempt.conclude(None, error)
        attempt.note_interrupt(interruption.reason)
        if value is not None and interruption.in_task() and attempt.may_run_code_of(value):
            return await self._record_off_loop(attempt, value, None, interruption)
        return attempt.conclude(value, None)

    def _replace_loop(self) -> None:
        """Go on with a new loop. The tasks of a closed one never end, so their attempts fail."""
        lost, self._running = list(self._running.values()), {}
        values, self._values = list(self._values.values()), {}
        self._loop = SharedLoop()
        for attempt, _ in lost:
            attempt.conclude(None, LoopEnded("the event loop was closed while the job ran"))
            self._done(attempt)
        for _, ended in values:
            ended.set_exception(LoopEnded("the event loop was closed while the job ran"))

    async def _record_off_loop(
        self, attempt: Attempt, value: Any, error: BaseException | None, interruption: Interruption
    ) -> BaseException | None:
        """Record the end of the job's function in another thread, because code of the user's may block there.

        Returns what the attempt ended with.
        """
        attempt.interrupt = None
        ended = await off_loop(partial(attempt.conclude, value, error))
        interruption.withdraw()
        return ended
