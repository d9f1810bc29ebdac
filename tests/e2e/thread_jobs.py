"""Jobs that exit, stop the loop, hold what others need, or return what must be awaited.

Copied into the working directory of the processes that run them.
"""

import _thread
import asyncio
import ctypes
import functools
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from callboard import RetryPolicy, job

ONCE = RetryPolicy(max_attempts=1)


class OwnExit(BaseException):
    """What no `except Exception` catches."""


@job(retry=ONCE)
def exits(how: str) -> None:
    match how:
        case "sys.exit":
            sys.exit("x")
        case "_thread.exit":
            _thread.exit()
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "GeneratorExit":
            raise GeneratorExit
        case _:
            raise OwnExit


@job(queue="async", retry=ONCE)
async def exits_async(how: str) -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    match how:
        case "sys.exit":
            sys.exit("x")
        case "CancelledError":
            raise asyncio.CancelledError
        case "cancel":
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)
        case "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1))
                assert task is not None
                task.cancel()
        case "stop":
            loop.stop()
        case "task":
            await asyncio.create_task(_exits())
        case _:
            raise OwnExit


async def _exits() -> None:
    await asyncio.sleep(0)
    sys.exit(1)


@job(queue="async", retry=ONCE)
async def leaves_exits_behind() -> None:
    """Succeed, and leave a task and a callback that exit; stop the loop past its guard; cancel all tasks."""
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, sys.exit, 1)
    _LEFT.append(loop.create_task(_exits()))
    assert isinstance(loop, uvloop.Loop)
    uvloop.Loop.stop(loop)
    for task in asyncio.all_tasks():
        if task not in _LEFT:
            task.cancel()


_LEFT: list[Any] = []


@job
def good(n: int) -> int:
    return n


@job(queue="async")
async def good_async(n: int) -> int:
    await asyncio.sleep(0)
    return n


@job(queue="async", retry=ONCE)
async def blocks(seconds: float) -> str:
    """Hold the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - this is what it is for
    return "slept"


@job(queue="async", retry=ONCE)
async def naps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@job(retry=ONCE)
def keeps_the_lock(seconds: int) -> str:
    """Hold the interpreter lock."""
    ctypes.PyDLL(None).sleep(seconds)
    return "slept"


def _sync_outside(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@job
@_sync_outside
async def looks_sync(n: int) -> int:
    await asyncio.sleep(0.01)
    return n + 1


@job(retry=ONCE)
@_sync_outside
async def naps_behind_a_wrapper(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"
