"""The event loop of a worker child: how many coroutines run at once, and what is taken back."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace

from callboard.workers.execute.async_runner import AsyncRunner

PATIENCE = 60.0


class Ward:
    """Attempts whose jobs wait for the gate, and what is known of them."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.done: list[object] = []
        self.gate = asyncio.Event()
        self.draining = Event()

    def attempt(self) -> SimpleNamespace:
        async def job() -> None:
            self.running += 1
            self.most = max(self.most, self.running)
            await self.gate.wait()
            self.running -= 1

        return SimpleNamespace(
            begin=lambda _: None, arguments=lambda: ((), {}), returned=lambda _: None, running=None, unstarted=False,
            definition=SimpleNamespace(call=job), interrupt=None, finish=True,
        )  # fmt: skip

    @contextmanager
    def loop(self, at_once: int) -> Iterator[AsyncRunner]:
        around = SimpleNamespace(concern=lambda _: False, may_block=False)
        runner = AsyncRunner(at_once, lambda *_: lambda: None, self.draining, self.done.append, around)
        runner.start()
        yield runner
        runner.stop()

    def open(self, runner: AsyncRunner) -> None:
        runner._loop.call_soon_threadsafe(self.gate.set)


def until(holds) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_no_more_run_than_may_and_all_of_them_in_the_end():
    ward = Ward()
    with ward.loop(3) as runner:
        attempts = [ward.attempt() for _ in range(10)]
        runner.submit(attempts[:7])
        runner.submit(attempts[7:])
        until(lambda: ward.running == 3)
        ward.open(runner)
        until(lambda: len(ward.done) == 10)
    assert ward.most == 3
    assert ward.done == attempts


def test_what_has_not_begun_can_be_taken_back():
    ward = Ward()
    with ward.loop(2) as runner:
        attempts = [ward.attempt() for _ in range(5)]
        runner.submit(attempts)
        until(lambda: ward.running == 2)
        assert runner.take_back() == attempts[2:]
        assert runner.take_back() == []
        ward.open(runner)
        until(lambda: len(ward.done) == 2)
    assert ward.most == 2


def test_what_waits_while_the_worker_drains_is_not_begun():
    ward = Ward()
    with ward.loop(1) as runner:
        attempts = [ward.attempt() for _ in range(3)]
        runner.submit(attempts)
        until(lambda: ward.running == 1)
        ward.draining.set()
        ward.open(runner)
        until(lambda: len(ward.done) == 3)
    assert [attempt.unstarted for attempt in attempts] == [False, True, True]
    assert ward.most == 1
