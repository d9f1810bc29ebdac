"""Interrupting a thread and a task: again when it swallowed the first, never while it cleans up."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from time import monotonic, sleep
from types import SimpleNamespace

import pytest

from callboard.workers.execute.interrupts import CancelInterrupt, ShutdownInterrupt, TimeoutInterrupt
from callboard.workers.execute.shared_loop import Interruption
from callboard.workers.execute.sync_runner import Guard

PATIENCE = 60.0


def wait_for(event: Event) -> None:
    """In naps, between which an interrupt can come."""
    end = monotonic() + PATIENCE
    while not event.is_set() and monotonic() < end:
        sleep(0.001)


class Block:
    """A function that runs under a guard, in a thread of its own."""

    def __init__(self, work: Callable[["Block"], None]) -> None:
        self.guard, self.reached, self.go_on = Guard(), Event(), Event()
        self.raised: BaseException | None = None
        self._work = work
        self._thread = Thread(target=self._run)
        self._thread.start()
        assert self.reached.wait(PATIENCE)
        self.reached.clear()

    def _run(self) -> None:
        try:
            with self.guard:
                self._work(self)
        except BaseException as error:  # noqa: BLE001 - to be looked at
            self.raised = error

    def ends(self) -> BaseException | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.raised


def idle(block: Block) -> None:
    block.reached.set()
    wait_for(block.go_on)


def swallow(block: Block) -> None:
    with suppress(CancelInterrupt):
        idle(block)
    idle(block)


def clean_up(block: Block) -> None:
    try:
        idle(block)
    finally:
        idle(block)


def test_a_block_is_interrupted_while_it_runs_and_not_after():
    block = Block(idle)
    assert block.guard.send(CancelInterrupt)
    assert isinstance(block.ends(), CancelInterrupt)
    assert not block.guard.send(CancelInterrupt)


def test_a_block_that_swallowed_an_interrupt_is_interrupted_again():
    block = Block(swallow)
    assert block.guard.send(CancelInterrupt)
    assert block.reached.wait(PATIENCE)
    assert block.guard.send(TimeoutInterrupt)
    assert isinstance(block.ends(), TimeoutInterrupt)


@pytest.mark.parametrize("other", [CancelInterrupt, ShutdownInterrupt])
def test_a_block_that_cleans_up_is_left_alone(other):
    block = Block(clean_up)
    assert block.guard.send(CancelInterrupt)
    assert block.reached.wait(PATIENCE)
    assert not block.guard.send(other)
    block.go_on.set()
    assert type(block.ends()) is CancelInterrupt


def test_a_task_is_cancelled_once_for_each_reason_and_again_at_the_fifth_asking():
    cancelled: list[None] = []
    task = SimpleNamespace(cancel=lambda: cancelled.append(None) or True)
    loop = SimpleNamespace(call_soon_threadsafe=lambda call, *arguments: call(*arguments))
    interruption = Interruption(loop)
    interruption.task = task
    assert [interruption.send(CancelInterrupt) for _ in range(7)] == [
        True, False, False, False, False, True, False,
    ]  # fmt: skip
    assert interruption.send(TimeoutInterrupt)
    # A cancellation outweighs a timeout, whichever came first.
    assert interruption.reason is CancelInterrupt
    assert len(cancelled) == 3


def test_a_task_that_was_cancelled_more_than_once_goes_on_to_report_it():
    async def work() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.cancel()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            interruption = Interruption(asyncio.get_running_loop())
            interruption.task = task
            interruption.withdraw()
        await asyncio.sleep(0)
        return task.cancelling()

    assert asyncio.run(work()) == 0
