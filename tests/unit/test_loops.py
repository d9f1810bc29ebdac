"""The scheduler's loops: one call at a time, an error or a slow call ends nothing, a stop waits."""

from collections.abc import Iterator
from threading import Event

import pytest

from callboard.jobs.errors import Unavailable
from callboard.scheduler.loops import Loops

PATIENCE = 60.0


@pytest.fixture
def loops() -> Iterator[Loops]:
    made = Loops()
    yield made
    made.stop()


class Calls:
    """Counts calls and signals the wanted number."""

    def __init__(self, wanted: int) -> None:
        self.count, self._wanted, self.reached = 0, wanted, Event()

    def __call__(self) -> None:
        self.count += 1
        if self.count >= self._wanted:
            self.reached.set()


def test_a_function_is_called_again_and_again(loops):
    calls = Calls(5)
    loops.every(0.01, "test", calls)
    assert calls.reached.wait(PATIENCE)


def test_a_function_that_returns_its_pause_is_called_after_it(loops):
    calls = Calls(3)

    def work() -> float:
        calls()
        return 0.01

    loops.paced(0.01, "test", work)
    assert calls.reached.wait(PATIENCE)


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("broken")])
def test_an_error_does_not_end_a_loop(loops, error):
    calls = Calls(3)

    def work() -> None:
        calls()
        raise error

    loops.every(0.01, "test", work)
    assert calls.reached.wait(PATIENCE)


def test_a_slow_loop_does_not_delay_another(loops):
    release, calls = Event(), Calls(3)
    loops.every(0.01, "slow", lambda: release.wait(PATIENCE))
    loops.every(0.01, "fast", calls)
    assert calls.reached.wait(PATIENCE)
    release.set()


def test_work_is_run_soon_and_not_while_its_last_call_runs(loops):
    began, release, again = Event(), Event(), Event()

    def first() -> None:
        began.set()
        release.wait(PATIENCE)

    assert loops.run_soon("task", first)
    assert began.wait(PATIENCE)
    assert not loops.run_soon("task", again.set)
    assert loops.run_soon("other", again.set)
    assert again.wait(PATIENCE)
    again.clear()
    release.set()
    while not loops.run_soon("task", again.set):
        pass
    assert again.wait(PATIENCE)


def test_work_that_fails_does_not_end_its_thread(loops):
    failed, done = Event(), Event()

    def fails() -> None:
        failed.set()
        raise ValueError

    loops.run_soon("task", fails)
    assert failed.wait(PATIENCE)
    while not loops.run_soon("task", done.set):
        pass
    assert done.wait(PATIENCE)


def test_a_stop_waits_for_the_work_and_takes_no_more():
    loops, began, release, ended = Loops(), Event(), Event(), Event()

    def work() -> None:
        began.set()
        release.wait(PATIENCE)
        ended.set()

    loops.run_soon("task", work)
    assert began.wait(PATIENCE)
    loops.every(3600, "rare", ended.clear)
    release.set()
    loops.stop()
    assert ended.is_set()
    assert not loops.run_soon("task", ended.clear)
    assert not loops.run_soon("other", ended.clear)
