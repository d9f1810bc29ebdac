"""Direct calls of async actors, and `async_to_sync`, in programs that have no worker's event loop."""

import os
from collections.abc import Awaitable
from threading import Lock
from typing import Any, TypeVar

from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.logging import get_logger

R = TypeVar("R")

#: The loop's thread starts within this time. Seconds.
_START = 10.0


class AsyncCalls:
    """Runs coroutines on an event loop in a thread, which starts with the first call in a process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pid = 0
        self._thread: EventLoopThread | None = None

    def run_coroutine(self, coro: Awaitable[R]) -> R:
        """Run a coroutine to its end; return its result."""
        return self._running().run_coroutine(coro)

    def _running(self) -> EventLoopThread:
        with self._lock:
            # A forked process has no copy of the thread.
            if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
                self._thread = EventLoopThread(get_logger(__name__, type(self)))  # type: ignore[no-untyped-call]
                # It must not keep the program from ending.
                self._thread.daemon = True
                self._thread.start(timeout=_START)
                self._pid = os.getpid()
            return self._thread


def serve_async_calls() -> None:
    """Let direct calls of async actors work in this process, unless something serves them already."""
    if get_event_loop_thread() is None:
        served: Any = AsyncCalls()
        set_event_loop_thread(served)
