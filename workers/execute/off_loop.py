"""Calls that may block, made in a thread of their own while a task of the event loop waits."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def off_loop(call: Callable[[], T]) -> T:
    """Run `call` in a thread of its own; return what it returned, or raise what it raised.

    The wait goes on when the task is cancelled: the job's own tasks may do that.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - it is raised in the task
            loop.call_soon_threadsafe(ended.set_exception, error)
        else:
            loop.call_soon_threadsafe(ended.set_result, value)

    Thread(target=copy_context().run, args=(run,), name="callboard-off-loop", daemon=True).start()
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])
    return ended.result()
