"""The event loop that all async jobs of a worker child share, and the cancellation of one of its tasks."""

import asyncio
from asyncio.tasks import _unregister_task
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

import uvloop

from callboard.workers.execute.interrupts import JobInterrupt

#: A task is cancelled again with every 5th interrupt for the same reason. Interrupts come a second apart.
_CANCEL_EVERY: Final = 5


class LoopEnded(RuntimeError):
    """The event loop stopped, or was closed, although nobody asked for a stop."""


class SharedLoop(uvloop.Loop):
    """An event loop that its jobs can neither stop nor close: other jobs run on it."""

    def stop(self) -> None:
        """Raise RuntimeError: only the worker ends its loop."""
        raise _refusal("stop")

    def close(self) -> None:
        """Raise RuntimeError."""
        raise _refusal("close")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        """Raise RuntimeError: no job could use `asyncio.to_thread` after it."""
        raise _refusal("shut down the threads of")

    def end(self) -> None:
        """Stop. The worker calls this in the loop's thread."""
        super().stop()

    def start_task(
        self,
        work: Coroutine[Any, Any, Any],
        context: Context | None = None,
        kind: "type[asyncio.Task[Any]]" = asyncio.Task,
    ) -> "asyncio.Task[Any]":
        """Start a task of the worker itself. context: None: a copy of the current context.

        It is no member of `asyncio.all_tasks()`: a job that cancels or awaits all tasks reaches no other job.
        A task factory that a job sets is not used for it.
        """
        task = kind(work, loop=self, context=context)
        _unregister_task(task)
        return task


class HookedTask(asyncio.Task[Any]):
    """A task whose context is sometimes in another thread, which makes a call of the task's there.

    A cancel would wake the task in its context meanwhile. A context cannot be in two threads at once, and the
    loop would fail. So a cancel does nothing then. A job may leave something behind that cancels its task.
    """

    is_away = False
    #: Whether a cancel may be on its way to the task.
    _is_hit = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the task. Does nothing, and returns False, while a call of the task's is made elsewhere."""
        if self.is_away:
            return False
        self._is_hit = True
        return super().cancel(msg)

    async def settle(self) -> None:
        """Let the cancels come that are on their way. The task itself calls this."""
        while self._is_hit:
            self._is_hit = False
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


class Interruption:
    """Cancels a task from another thread and keeps the reason."""

    __slots__ = ("_counts", "_loop", "reason", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._counts: dict[type[JobInterrupt], int] = {}
        #: The task to cancel; set before the task runs.
        self.task: asyncio.Task[Any] | None = None
        #: Why the task was cancelled: the weightiest reason. None when it had ended before.
        self.reason: type[JobInterrupt] | None = None

    def send(self, interrupt: type[JobInterrupt]) -> bool:
        """Cancel the task; return whether it is being cancelled.

        It is not visible from outside whether a task ignored the cancel or is cleaning up. So after each
        cancel the next four calls for the same reason do nothing.
        """
        if self.task is None:
            return False
        count = self._counts.get(interrupt, 0)
        self._counts[interrupt] = count + 1
        if count % _CANCEL_EVERY:
            return False
        self._loop.call_soon_threadsafe(self._cancel, self.task, interrupt)
        return True

    def _cancel(self, task: "asyncio.Task[Any]", interrupt: type[JobInterrupt]) -> None:
        # False: the job has ended meanwhile, and this interrupt changes nothing.
        if (
            self.task is not None
            and task.cancel()
            and (self.reason is None or self.reason.weight < interrupt.weight)
        ):
            self.reason = interrupt

    def end_task(self) -> None:
        """Let the task end with its coroutine. Call this where the coroutine ends.

        A job can close the coroutine of its own task, or throw into it, from outside of the task. The task
        would then wait for ever for what the job awaited last.
        """
        if self.task is not None and not self.in_task():
            self._loop.call_soon(self.task.cancel)

    def in_task(self) -> bool:
        """Return whether the task itself runs the caller."""
        return asyncio.current_task(self._loop) is self.task

    def withdraw(self) -> None:
        """Clear the task's cancellations, so that the task can go on and report its end."""
        while self.task is not None and self.task.cancelling():
            self.task.uncancel()

    def end(self) -> None:
        """Let no further interrupt through, also none that is on its way to the loop."""
        self.withdraw()
        self.task = None


def _refusal(verb: str) -> RuntimeError:
    return RuntimeError(f"a job cannot {verb} the event loop of its worker: other jobs run on it")
