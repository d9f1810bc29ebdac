"""Running async attempts: tasks on one event loop in one thread, as many as there are async slots."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Final

import uvloop
from dramatiq.middleware import MiddlewareError, SkipMessage

from callboard.jobs.attempts.context import enter
from callboard.workers.board import PutOnBoard
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.forks import leave_copy
from callboard.workers.execute.hooks import Hooks
from callboard.workers.execute.interrupts import JobInterrupt
from callboard.workers.execute.runner import AttemptMessage

#: A task that was cancelled has so many askings, a second apart, for cleaning up.
_ASKED_AGAIN: Final = 5


class AsyncRunner(Thread):
    """The loop thread. `done` is called, from the loop, with each attempt that has ended.

    at_once: how many run; what is submitted beyond that waits.
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
        # A task that nobody refers to may be collected while it runs.
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Run these; the loop is woken once for all of them."""
        self._waiting.extend(attempts)
        self._loop.call_soon_threadsafe(self._begin)

    def take_back(self) -> list[Attempt]:
        """What was submitted and has not begun."""
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
                task = self._loop.create_task(self._run(self._waiting.popleft(), interruption))
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
                await self._surrounded(attempt, interruption, AttemptMessage(attempt))
            else:
                await self._attempt(attempt, interruption)
        finally:
            self._done(attempt)

    async def _surrounded(
        self, attempt: Attempt, interruption: "Interruption", message: AttemptMessage
    ) -> None:
        """The attempt with the hooks of middleware around it, as Dramatiq's threads call them."""
        error: BaseException | None = None
        try:
            self._around.before(message)
            if not message.failed:
                error = await self._attempt(attempt, interruption)
        except MiddlewareError as refusal:
            error = refusal
        if isinstance(error, SkipMessage):
            self._around.skipped(message)
        else:
            self._around.after(message, error)
        if not attempt.unstarted:
            self._around.acknowledge(message)

    async def _attempt(self, attempt: Attempt, interruption: "Interruption") -> BaseException | None:
        """Run the attempt to its end; returns what it raised."""
        attempt.begin(self._put_on_board)
        try:
            args, kwargs = attempt.arguments()
            # A task has a context of its own, so the variable needs no resetting.
            enter(attempt.running)
            attempt.interrupt = interruption.send
            value = await attempt.definition.call(*args, **kwargs)
            leave_copy()
            attempt.returned(value)
        except asyncio.CancelledError as error:
            interruption.withdraw()
            ended = interruption.reason() if interruption.reason else error
            attempt.raised(ended)
            return ended
        except BaseException as error:  # noqa: BLE001 - whatever a job raises is how its attempt ended
            leave_copy(error)
            attempt.raised(error)
            return error
        return None


class Interruption:
    """Cancels a task from another thread, and remembers why."""

    __slots__ = ("_asked", "_loop", "reason", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: dict[type[JobInterrupt], int] = {}
        #: What it cancels; set before it runs.
        self.task: asyncio.Task[None] | None = None
        self.reason: type[JobInterrupt] | None = None

    def send(self, interrupt: type[JobInterrupt]) -> bool:
        """Cancel the task; whether that was done.

        Whether a task has swallowed it or is cleaning up cannot be seen from outside: it has until the fifth asking
        for the same reason, which come a second apart, and is cancelled again.
        """
        if self.task is None:
            return False
        asked = self._asked.get(interrupt, 0)
        self._asked[interrupt] = asked + 1
        if asked % _ASKED_AGAIN:
            return False
        self.reason = interrupt
        self._loop.call_soon_threadsafe(self.task.cancel)
        return True

    def withdraw(self) -> None:
        """The cancellations have been taken note of; the task goes on to report them."""
        while self.task is not None and self.task.cancelling():
            self.task.uncancel()
