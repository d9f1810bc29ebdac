"""Dramatiq's `async_to_sync` on the event loop of the async jobs."""

import asyncio
from collections.abc import Awaitable, Coroutine
from threading import Thread, current_thread
from typing import TypeVar, cast

from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.logging import get_logger
from dramatiq.middleware import AsyncIO, Middleware

from callboard.workers.execute.async_runner import AsyncRunner

R = TypeVar("R")


class JobLoop(EventLoopThread):
    """Stands for the thread that Dramatiq's AsyncIO middleware starts; uses the loop of the async jobs."""

    def __init__(self, runner: AsyncRunner) -> None:
        # Not Dramatiq's own constructor, which makes a loop.
        Thread.__init__(self, daemon=True)
        self.interrupt_check_ival = 0.1
        self.logger = get_logger(__name__, type(self))  # type: ignore[no-untyped-call]
        self._runner = runner

    @property
    def loop(self) -> asyncio.AbstractEventLoop:  # type: ignore[override]
        """The loop that runs now: a job may have closed the one before."""
        return self._runner.event_loop

    def run_coroutine(self, coro: Awaitable[R]) -> R:
        """Run a coroutine on the loop and wait for its result. Raises RuntimeError on the loop itself."""
        if current_thread() is self._runner:
            cast("Coroutine[object, object, R]", coro).close()
            raise RuntimeError(
                "an async job cannot wait here for another coroutine, because both run on one event loop;"
                " await it instead, or call this in a thread: await asyncio.to_thread(...)"
            )
        return super().run_coroutine(coro)

    def stop(self) -> None:
        """Do nothing: only the worker ends its loop."""

    def join(self, timeout: float | None = None) -> None:
        """Do nothing."""


def serve_calls(runner: AsyncRunner) -> None:
    """Let `async_to_sync` and direct calls of async actors use this loop, in this process."""
    set_event_loop_thread(JobLoop(runner))


def leave_out_own_loop() -> None:
    """Keep Dramatiq's AsyncIO from starting a loop of its own, also where a subclass calls its hooks."""
    for name in ("before_worker_boot", "after_worker_shutdown"):
        setattr(AsyncIO, name, getattr(Middleware, name))
