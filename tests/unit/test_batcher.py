"""The Batcher: concurrent callers are written together, each gets its own result, and none is hit by
another's fault.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from callboard.jobs.enqueue.batcher import Batcher
from callboard.jobs.errors import Conflict, Unavailable

PATIENCE = 60.0


class Desk:
    """Does the work: doubles numbers, refuses odd ones; what is left to do is to file the group.

    held: so many groups, the first ones, wait until the gate opens. breaks: what then becomes of those.
    """

    def __init__(self, *, held: int = 0, breaks: BaseException | None = None) -> None:
        self.groups: list[list[int]] = []
        self.filed: list[list[int]] = []
        #: The thread that did the work of each group.
        self.threads: list[int] = []
        self.gate = threading.Event()
        self._held = held
        self._breaks = breaks

    def __call__(self, numbers: Sequence[int]) -> tuple[list[int | Exception], Callable[[], None]]:
        self.groups.append(list(numbers))
        self.threads.append(threading.get_ident())
        if len(self.groups) <= self._held:
            assert self.gate.wait(PATIENCE)
            if self._breaks is not None:
                raise self._breaks
        told = [Conflict(f"{number} is odd") if number % 2 else number * 2 for number in numbers]
        return told, lambda: self.filed.append(list(numbers))


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def come(desk: Desk, *numbers: int) -> list[object]:
    """The answers of all, who come one after the other while what came before is held up."""
    batcher = Batcher("numbers", desk)
    with ThreadPoolExecutor(len(numbers)) as pool:
        futures = []
        for number in numbers:
            futures.append(pool.submit(batcher.run, number))
            # The first is at work, the second with our thread, and the others wait for that.
            until(lambda: len(desk.groups) == min(len(futures), 2))
            until(lambda: sum(map(len, desk.groups)) + batcher._waiting.qsize() == len(futures))
        desk.gate.set()
        answers = [future.exception(PATIENCE) or future.result() for future in futures]
    batcher.close()
    return answers


def test_who_comes_alone_is_done_at_once_by_itself():
    desk = Desk()
    batcher = Batcher("numbers", desk)
    assert [batcher.run(2), batcher.run(4)] == [4, 8]
    assert desk.groups == desk.filed == [[2], [4]]
    assert not batcher._serving


def test_who_comes_meanwhile_is_done_together_and_an_error_is_its_own_callers_alone():
    desk = Desk(held=2)
    *answers, odd, last = come(desk, 2, 4, 6, 8, 5, 10)
    assert answers == [4, 8, 12, 16]
    assert (str(odd), last) == ("5 is odd", 20)
    assert desk.groups == [[2], [4], [6, 8, 5, 10]]
    assert sorted(desk.filed) == sorted(desk.groups)


def test_after_a_group_of_several_the_next_joins_a_group_too_and_after_a_group_of_one_it_is_done_by_itself():
    desk = Desk(held=2)
    batcher = Batcher("numbers", desk)
    with ThreadPoolExecutor(4) as pool:
        futures = []
        for number in (2, 4, 6, 8):
            futures.append(pool.submit(batcher.run, number))
            until(lambda: len(desk.groups) == min(len(futures), 2))
            until(lambda: sum(map(len, desk.groups)) + batcher._waiting.qsize() == len(futures))
        desk.gate.set()
        assert [future.result(PATIENCE) for future in futures] == [4, 8, 12, 16]
    assert desk.groups == [[2], [4], [6, 8]]
    assert [batcher.run(10), batcher.run(12)] == [20, 24]
    assert desk.threads[-2:] == [desk.threads[1], threading.get_ident()]
    batcher.close()


def test_work_that_fails_is_told_to_whom_it_was_for_and_the_next_are_done():
    desk = Desk(held=2, breaks=Unavailable("not now"))
    first, second, third = come(desk, 2, 4, 6)
    assert (str(first), str(second), third) == ("not now", "not now", 12)


def test_an_error_is_raised_and_not_returned():
    with pytest.raises(Conflict, match="3 is odd"):
        Batcher("numbers", Desk()).run(3)


def test_after_the_end_another_thread_begins():
    desk = Desk(held=2)
    batcher = Batcher("numbers", desk)
    for _ in range(2):
        desk.gate.clear()
        desk.groups.clear()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(batcher.run, 2)
            until(lambda: desk.groups == [[2]])
            second = pool.submit(batcher.run, 4)
            until(lambda: desk.groups == [[2], [4]])
            desk.gate.set()
            assert (first.result(PATIENCE), second.result(PATIENCE)) == (4, 8)
        batcher.close()
        until(lambda: not batcher._serving)


def test_many_at_once_hear_each_of_its_own():
    desk = Desk()
    batcher = Batcher("numbers", desk)

    def ask(thread: int) -> list[int]:
        return [batcher.run(2 * (1_000 * thread + turn)) for turn in range(300)]

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(ask, range(16)))
    batcher.close()
    assert told == [[4 * (1_000 * thread + turn) for turn in range(300)] for thread in range(16)]
    assert sum(map(len, desk.groups)) == sum(map(len, desk.filed)) == 16 * 300


def test_threads_that_are_interrupted_anywhere_are_the_only_ones_to_suffer():
    # In a process of its own: what strikes a thread may strike it in the test runner's own hooks.
    program = [sys.executable, "-m", "tests.unit.interrupted_callers"]
    done = subprocess.run(program, stdout=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()[:1]) == (0, [b"well"])


def test_a_thread_of_ours_that_dies_as_it_is_born_is_replaced(monkeypatch):
    desk = Desk(held=1)
    batcher = Batcher("numbers", desk)
    born = []
    serve = batcher._serve

    def dies_once():
        born.append(1)
        if len(born) > 1:
            serve()

    monkeypatch.setattr(batcher, "_serve", dies_once)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.run, 2)
        until(lambda: desk.groups == [[2]])
        others = list(pool.map(batcher.run, [4, 6]))
        desk.gate.set()
        assert (others, first.result(PATIENCE)) == ([8, 12], 4)
    assert len(born) > 1
    batcher.close()


def test_a_copy_of_the_process_does_not_wait_for_threads_that_it_does_not_have():
    desk = Desk(held=2)
    batcher = Batcher("numbers", desk)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(batcher.run, 2)]
        until(lambda: desk.groups == [[2]])
        futures.append(pool.submit(batcher.run, 4))
        until(lambda: desk.groups == [[2], [4]])
        copy = os.fork()
        if copy == 0:
            with ThreadPoolExecutor(8) as own:
                os._exit(0 if set(own.map(batcher.run, [6] * 64)) == {12} else 1)
        status = wait_for(copy)
        desk.gate.set()
        assert [future.result(PATIENCE) for future in futures] == [4, 8]
    assert os.waitstatus_to_exitcode(status) == 0


def wait_for(process: int) -> int:
    """The status with which it ended; a copy that hangs is ended, and fails."""
    hung = threading.Timer(PATIENCE, os.kill, (process, 9))
    hung.start()
    try:
        return os.waitpid(process, 0)[1]
    finally:
        hung.cancel()


def test_a_close_does_not_wait_for_callers_that_go_on():
    def slow(numbers):
        time.sleep(0.002)
        return list(numbers), lambda: None

    batcher = Batcher("numbers", slow)
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            assert batcher.run(1) == 1

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: batcher._serving)
    closing = threading.Thread(target=batcher.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    batcher.close()
