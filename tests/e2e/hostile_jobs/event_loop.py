"""Jobs that break the event loop."""

import asyncio
import contextvars
import sys
import time
from typing import Any

from .cases import case
from .errors import StrExits


@case(error="SystemExit", job="hostile_async")
async def exits_on_the_loop() -> None:
    sys.exit(1)


@case(error="KeyboardInterrupt", job="hostile_async")
async def presses_ctrl_c_on_the_loop() -> None:
    raise KeyboardInterrupt


@case(error="SystemExit", job="hostile_async")
async def exits_after_an_await() -> None:
    await asyncio.sleep(0.01)
    sys.exit(1)


@case(job="hostile_async")
async def raises_cancelled() -> None:
    raise asyncio.CancelledError


@case(job="hostile_async")
async def cancels_its_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


@case(error="GeneratorExit", job="hostile_async")
async def closes_its_coroutine() -> None:
    asyncio.get_running_loop().call_later(0.05, own_coroutine().close)
    await asyncio.Event().wait()


@case(error="StrExits", job="hostile_async")
async def throws_into_its_coroutine() -> None:
    asyncio.get_running_loop().call_later(0.05, own_coroutine().throw, StrExits())
    await asyncio.Event().wait()


@case()
def returns_what_closes_its_coroutine() -> Any:
    return closes_its_coroutine()


@case("succeeded", job="hostile_async")
async def leaves_a_task_that_exits() -> None:
    async def leave() -> None:
        await asyncio.sleep(0.05)
        sys.exit(1)

    Kept.task = asyncio.create_task(leave())


@case("succeeded", job="hostile_async")
async def leaves_a_callback_that_exits() -> None:
    asyncio.get_running_loop().call_later(0.05, sys.exit, 1)


@case("succeeded", job="hostile_async")
async def stops_the_loop() -> str:
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
    await asyncio.sleep(0.1)
    return "went on"


@case(job="hostile_async")
async def closes_the_loop() -> None:
    asyncio.get_running_loop().close()


@case("succeeded", job="hostile_async")
async def breaks_the_exception_handler() -> None:
    def handler(*_: object) -> None:
        sys.exit(1)

    asyncio.get_running_loop().set_exception_handler(handler)

    async def fail() -> None:
        raise ValueError

    Kept.task = asyncio.create_task(fail())
    await asyncio.sleep(0.05)


@case("succeeded", job="hostile_async")
async def blocks_the_loop() -> None:
    time.sleep(1.5)  # noqa: ASYNC251 - this is what it is for


@case("succeeded", job="hostile_async")
async def makes_tasks_by_its_own_factory() -> None:
    def factory(*_: object, **__: object) -> Any:
        raise RuntimeError("no task")

    asyncio.get_running_loop().set_task_factory(factory)


def own_coroutine() -> Any:
    task = asyncio.current_task()
    assert task is not None
    return task.get_coro()


class Kept:
    """What a job leaves behind."""

    task: Any = None
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("left_behind")
