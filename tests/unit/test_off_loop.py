"""Code that blocks runs beside the event loop, not on it."""

import asyncio
from threading import Event

import pytest

from callboard.workers.execute.off_loop import off_loop


def test_the_loop_goes_on_while_a_call_blocks_and_a_cancel_does_not_end_the_wait():
    leave, ended = Event(), []

    def call() -> None:
        leave.wait(30)
        ended.append(True)

    async def waits() -> list[bool]:
        await off_loop(call)
        return list(ended)

    async def main() -> list[bool]:
        task = asyncio.create_task(waits())
        for _ in range(5):
            await asyncio.sleep(0)
            task.cancel()
        assert not task.done()
        leave.set()
        return await task

    assert asyncio.run(main()) == [True]


def test_the_task_gets_the_error_of_a_call_that_fails():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(off_loop(lambda: 1 // 0))
