"""Running async attempts: tasks on one event loop, which runs in a thread of its own."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from threading import Event, Thread
from typing import Any, Final

import uvloop
from dramatiq.middleware import MiddlewareError, SkipMessage

from callboard.jobs.attempts.context import enter, leave
from callboard.workers.board import PutOnBoard
from callboard.workers.execute import forks
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.attempt_message import AttemptMessage
from callboard.workers.execute.hooks import Hooks
from callboard.workers.execute.interrupts import JobInterrupt
from callboard.workers.execute.off_loop import off_loop

#: A task is cancelled again with every 5th interrupt for the same reason. Interrupts come a second apart.
_CANCEL_EVERY: Final = 5


class AsyncRunner(Thread):
    """The thread of the event loop.

    at_once: how many attempts run at the same time. Further ones wait.
    done:    is called in the loop's thread with each attempt that has ended.
    """

    def __init__(
        self,
        at_once: int,
        put_on_board: PutOnBoard,
        draining: Event,
        done: Callable[[Attempt], None],
        around: Hooks,
    ) -> None:
        super().__init__(name="callboard-async", daemon=True)
        self._at_once = at_once
        self._waiting: deque[Attempt] = deque()
        self._put_on_board = put_on_board
        self._draining = draining
        self._done = done
        self._around = around
        self._loop = uvloop.new_event_loop()
        # asyncio keeps weak references only: without these a running task could be garbage-collected.
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Run these attempts. The loop is woken once for all of them."""
        self._waiting.extend(attempts)
        self._loop.call_soon_threadsafe(self._begin)

    def take_back(self) -> list[Attempt]:
        """Remove and return the attempts that have not started."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.popleft())
        return taken

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(timeout=2)

    def _begin(self) -> None:
        with suppress(IndexError):
            while len(self._tasks) < self._at_once:
                interruption = Interruption(self._loop)
                # In an empty context: what submitted the attempt, or ran before it, must not be seen by it.
                task = self._loop.create_task(
                    self._run(self._waiting.popleft(), interruption), context=Context()
                )
                interruption.task = task
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if self._waiting:
            self._begin()

    async def _run(self, attempt: Attempt, interruption: "Interruption") -> None:
        if self._draining.is_set():
            attempt.unstarted = True
            self._done(attempt)
            return
        try:
            if self._around.concern(attempt):
                await self._with_hooks(attempt, interruption, AttemptMessage(attempt))
            else:
                await self._attempt(attempt, interruption)
        finally:
            self._done(attempt)

    async def _with_hooks(
        self, attempt: Attempt, interruption: "Interruption", message: AttemptMessage
    ) -> None:
        """Run the attempt with the middleware hooks around it, in the order of Dramatiq's threads."""
        error: BaseException | None = None
        try:
            self._around.before(message)
            if not message.failed:
                error = await self._attempt(attempt, interruption)
        except MiddlewareError as refusal:
            error = refusal
        if error is not None and issubclass(type(error), SkipMessage):
            self._around.skipped(message)
        else:
            self._around.after(message, error)
        if not attempt.unstarted:
            self._around.acknowledge(message)

    async def _attempt(self, attempt: Attempt, interruption: "Interruption") -> BaseException | None:
        """Run the attempt to its end; return what the job raised."""
        attempt.begin(self._put_on_board)
        try:
            args, kwargs = attempt.arguments()
            token = enter(attempt.running)
            attempt.interrupt = interruption.send
            try:
                value = await attempt.definition.call(*args, **kwargs)
            finally:
                leave(token)
            if forks.PROCESS.is_copy:
                forks.exit_copy()
            await self._record(attempt, attempt.returned, value, interruption)
        except asyncio.CancelledError as error:
            interruption.withdraw()
            ended = interruption.reason() if interruption.reason else error
            await self._record(attempt, attempt.raised, ended, interruption)
            return ended
        except BaseException as error:  # noqa: BLE001 - whatever a job raises is the end of its attempt
            if forks.PROCESS.is_copy:
                forks.exit_copy(error)
            await self._record(attempt, attempt.raised, error, interruption)
            return error
        return None

    async def _record(
        self, attempt: Attempt, record: Callable[[Any], None], ended: Any, interruption: "Interruption"
    ) -> None:
        """Record what the job returned or raised, in another thread if code of the user's may block there."""
        if not attempt.may_run_code_of(ended):
            record(ended)
            return
        attempt.interrupt = None
        await off_loop(partial(record, ended))
        interruption.withdraw()


class Interruption:
    """Cancels a task from another thread and keeps the reason."""

    __slots__ = ("_counts", "_loop", "reason", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._counts: dict[type[JobInterrupt], int] = {}
        #: The task to cancel; set before the task runs.
        self.task: asyncio.Task[None] | None = None
        self.reason: type[JobInterrupt] | None = None

    def send(self, interrupt: type[JobInterrupt]) -> bool:
        """Cancel the task; return whether it was cancelled.

        It is not visible from outside whether a task ignored the cancel or is cleaning up. So after each
        cancel the next four calls for the same reason do nothing.
        """
        if self.task is None:
            return False
        count = self._counts.get(interrupt, 0)
        self._counts[interrupt] = count + 1
        if count % _CANCEL_EVERY:
            return False
        self.reason = interrupt
        self._loop.call_soon_threadsafe(self.task.cancel)
        return True

    def withdraw(self) -> None:
        """Clear the task's cancellations, so that the task can go on and report its end."""
        while self.task is not None and self.task.cancelling():
            self.task.uncancel()
