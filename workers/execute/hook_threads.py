"""Threads for the hooks of async jobs, which may block: each attempt has one from its first to its last hook.

So a hook that ends an attempt finds what an earlier one put into a `threading.local`, as in Dramatiq.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple, TypeVar, cast

from callboard.workers.execute.shared_loop import HookedTask

T = TypeVar("T")

#: More threads without work are ended.
_MOST_IDLE: Final = 16


class _Call(NamedTuple):
    call: Callable[[], Any]
    context: Context
    loop: asyncio.AbstractEventLoop
    ended: "asyncio.Future[tuple[Any, BaseException | None]]"


class HookThread(Thread):
    """Makes the calls of one attempt at a time."""

    def __init__(self) -> None:
        super().__init__(name="callboard-hooks", daemon=True)
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()

    async def call(self, function: Callable[[], T], context: Context) -> T:
        """Call a function in the thread and in the context of the current HookedTask; return its value."""
        loop, task = asyncio.get_running_loop(), cast("HookedTask", asyncio.current_task())
        ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        await task.settle()
        # The task leaves its context when it begins to wait. The loop makes this call after that.
        loop.call_soon(self._calls.put, _Call(function, context, loop, ended), context=Context())
        task.is_away = True
        try:
            value, error = await ended
        finally:
            task.is_away = False
        if error is not None:
            raise error
        return cast("T", value)

    def end(self) -> None:
        self._calls.put(None)

    def run(self) -> None:
        while (item := self._calls.get()) is not None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = item.context.run(item.call), None
            except BaseException as error:  # noqa: BLE001 - it is raised in the task
                outcome = None, error
            # A job may have closed the loop. The attempts of a closed loop have ended.
            with suppress(RuntimeError):
                item.loop.call_soon_threadsafe(partial(_set, item.ended, outcome), context=Context())
            del item, outcome


def _set(
    ended: "asyncio.Future[tuple[Any, BaseException | None]]", outcome: tuple[Any, BaseException | None]
) -> None:
    ended.set_result(outcome)


class HookThreads:
    """The threads of one event loop. Only tasks of this loop use it."""

    def __init__(self) -> None:
        self._idle: list[HookThread] = []

    def take(self) -> HookThread:
        """Return a thread that makes no other calls."""
        if self._idle:
            return self._idle.pop()
        thread = HookThread()
        # In an empty context, or the thread would keep what belongs to the first attempt.
        Context().run(thread.start)
        return thread

    def give_back(self, thread: HookThread) -> None:
        """Let other attempts use the thread."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(thread)
        else:
            thread.end()
