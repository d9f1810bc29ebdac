"""Coroutines and the Batcher: what waits is written together and bounded, and each caller gets its own
result.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from callboard.jobs.enqueue.batcher import Batcher
from callboard.jobs.errors import Conflict, Unavailable

PATIENCE = 60.0


class Gated:
    """Doubles numbers and refuses odd ones. The first `held` groups wait until the gate opens."""

    def __init__(self, held: int = 1) -> None:
        self.held = held
        self.groups: list[list[int]] = []
        self.gate = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> tuple[list[int | Exception], Callable[[], None]]:
        self.groups.append(list(numbers))
        if len(self.groups) <= self.held:
            assert self.gate.wait(PATIENCE)
        results = [Conflict(f"{number} is odd") if number % 2 else number * 2 for number in numbers]
        return results, lambda: None


def come(batcher: Batcher[int, int], number: int, size: int = 100) -> "asyncio.Future[int]":
    return asyncio.ensure_future(batcher.run_async(number, size=size))


async def first(batcher: Batcher[int, int], work: Gated) -> "asyncio.Future[int]":
    """A first call that is held at the gate, so that what follows must wait."""
    held = come(batcher, 2)
    while not work.groups:
        await asyncio.sleep(0.001)
    return held


def test_what_comes_during_a_write_is_written_together():
    async def scenario():
        held = await first(batcher, work)
        others = [come(batcher, 2 * number) for number in range(50)]
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(held, *others)

    work = Gated()
    batcher = Batcher("numbers", work)
    assert asyncio.run(scenario()) == [4, *(4 * number for number in range(50))]
    assert [len(group) for group in work.groups] == [1, 50]
    batcher.close()


def test_a_crowd_is_written_in_groups_of_a_thousand_even_when_the_batcher_closes():
    async def scenario():
        held = await first(batcher, work)
        others = [come(batcher, 2 * number) for number in range(2_500)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        while not batcher._closed:
            await asyncio.sleep(0.001)
        work.gate.set()
        results = await asyncio.gather(held, *others)
        await closing
        return results

    work = Gated()
    batcher = Batcher("numbers", work)
    assert asyncio.run(scenario()) == [4, *(4 * number for number in range(2_500))]
    assert [len(group) for group in work.groups] == [1, 1000, 1000, 500]


def test_threads_and_coroutines_share_a_group():
    async def scenario():
        held = await first(batcher, work)
        alone = asyncio.ensure_future(asyncio.to_thread(batcher.run, 4))
        while len(work.groups) < 2:
            await asyncio.sleep(0.001)
        waits = asyncio.ensure_future(asyncio.to_thread(batcher.run, 6))
        while not batcher._waiting.qsize():
            await asyncio.sleep(0.001)
        last = come(batcher, 8)
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(held, alone, waits, last)

    work = Gated(held=2)
    batcher = Batcher("numbers", work)
    assert asyncio.run(scenario()) == [4, 8, 12, 16]
    assert work.groups == [[2], [4], [6, 8]]
    batcher.close()


def test_of_a_group_each_gets_its_own_error():
    async def scenario():
        held = await first(batcher, work)
        others = [come(batcher, number) for number in (4, 5, 6)]
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(held, *others, return_exceptions=True)

    work = Gated()
    batcher = Batcher("numbers", work)
    results = asyncio.run(scenario())
    assert [str(one) for one in results] == ["4", "8", "5 is odd", "12"]
    batcher.close()


@pytest.mark.parametrize("bound", [{"most_waiting": 2}, {"most_bytes": 250}])
def test_what_does_not_fit_is_refused_and_the_rest_is_written(bound):
    async def scenario():
        held = await first(batcher, work)
        others = [come(batcher, 2 * number) for number in range(3)]
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(held, *others, return_exceptions=True)

    work = Gated()
    batcher = Batcher("numbers", work, **bound)
    *written, refused = asyncio.run(scenario())
    assert written == [4, 0, 4]
    assert isinstance(refused, Unavailable)
    assert refused.message == "too many numbers wait to be written; try again"
    batcher.close()


def test_an_item_that_alone_is_larger_than_what_may_wait_is_written():
    work = Gated()
    work.gate.set()
    batcher = Batcher("numbers", work, most_bytes=10)
    assert asyncio.run(batcher.run_async(2, size=1_000)) == 4
    batcher.close()


def test_the_bound_counts_what_waits_and_not_what_was_written():
    async def scenario():
        return [await batcher.run_async(2, size=100) for _ in range(50)]

    work = Gated()
    work.gate.set()
    batcher = Batcher("numbers", work, most_bytes=250)
    assert asyncio.run(scenario()) == [4] * 50
    batcher.close()


def test_closing_writes_what_waits_and_refuses_what_comes():
    async def scenario():
        held = await first(batcher, work)
        second = come(batcher, 4)
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        while not batcher._closed:
            await asyncio.sleep(0.001)
        late = come(batcher, 6)
        await asyncio.sleep(0)
        work.gate.set()
        await closing
        assert batcher._serving == 0
        return await asyncio.gather(held, second, late, return_exceptions=True)

    work = Gated()
    batcher = Batcher("numbers", work)
    *written, late = asyncio.run(scenario())
    assert written == [4, 8]
    assert isinstance(late, Unavailable)


def test_a_caller_that_is_cancelled_does_not_disturb_the_others():
    async def scenario():
        held = await first(batcher, work)
        gone, stays = come(batcher, 4), come(batcher, 6)
        await asyncio.sleep(0)
        gone.cancel()
        work.gate.set()
        await held
        return await stays

    work = Gated()
    batcher = Batcher("numbers", work)
    assert asyncio.run(scenario()) == 12
    batcher.close()


def test_a_loop_that_has_ended_does_not_disturb_the_others():
    async def leaves():
        come(batcher, 4)
        await asyncio.sleep(0)

    async def scenario():
        held = await first(batcher, work)
        await asyncio.to_thread(asyncio.run, leaves())
        stays = come(batcher, 6)
        await asyncio.sleep(0)
        work.gate.set()
        return await asyncio.gather(held, stays)

    work = Gated()
    batcher = Batcher("numbers", work)
    assert asyncio.run(scenario()) == [4, 12]
    batcher.close()
