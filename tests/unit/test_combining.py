"""Combining: who comes at the same time is done together, and each hears of its own."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.errors import Conflict, Unavailable
from jobs.services.combining import Combining

PATIENCE = 10.0


class Desk:
    """Does the work: doubles numbers, refuses odd ones; the first group is held up until the gate opens.

    What is left to do is to file the group.
    """

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.breaks: BaseException | None = None
        self.filed: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> tuple[list[int | Exception], Callable[[], None]]:
        self.groups.append(list(numbers))
        if not self.begun.is_set():
            self.begun.set()
            assert self.gate.wait(PATIENCE)
            if self.breaks is not None:
                raise self.breaks
        told = [Conflict(f"{number} is odd") if number % 2 else number * 2 for number in numbers]
        return told, lambda: self.filed.append(list(numbers))


def come_meanwhile(desk: Desk, combining: Combining, first: int, others: Sequence[int]):
    """The answers of all, of whom the others come while the first one's work is being done."""
    with ThreadPoolExecutor(1 + len(others)) as pool:
        futures = [pool.submit(combining.run, first)]
        assert desk.begun.wait(PATIENCE)
        futures += [pool.submit(combining.run, number) for number in others]
        while len(combining._waiting) < len(others):
            pass
        desk.gate.set()
        return [future.exception(PATIENCE) or future.result() for future in futures]


def test_who_comes_alone_is_done_at_once():
    desk = Desk()
    desk.gate.set()
    combining = Combining(desk)
    assert [combining.run(2), combining.run(4)] == [4, 8]
    assert desk.groups == desk.filed == [[2], [4]]


def test_who_comes_meanwhile_is_done_together_and_an_error_is_its_own_callers_alone():
    desk = Desk()
    answers = come_meanwhile(desk, Combining(desk, at_once=1), 2, [4, 5, 6, 8])
    assert sorted(answer for answer in answers if isinstance(answer, int)) == [4, 8, 12, 16]
    assert [str(answer) for answer in answers if isinstance(answer, Exception)] == ["5 is odd"]
    assert [sorted(group) for group in desk.groups] == [[2], [4, 5, 6, 8]]


def test_work_that_fails_is_told_to_whom_it_was_for_and_the_next_are_done():
    desk = Desk()
    desk.breaks = Unavailable("not now")
    answers = come_meanwhile(desk, Combining(desk, at_once=1), 2, [4])
    assert (str(answers[0]), answers[1]) == ("not now", 8)


def test_who_was_done_by_somebody_who_was_interrupted_hears_that_it_may_not_be_done():
    desk = Desk()
    first = [2]

    def interrupted(numbers: Sequence[int]) -> tuple[list[int | Exception], Callable[[], None]]:
        if first:
            first.clear()
            return desk(numbers)
        raise KeyboardInterrupt

    combining = Combining(interrupted, at_once=1)
    answers = come_meanwhile(desk, combining, 2, [4, 6])
    assert answers[0] == 4
    assert sorted(type(answer).__name__ for answer in answers[1:]) == ["KeyboardInterrupt", "Unavailable"]


def test_a_copy_of_the_process_does_not_wait_for_a_thread_that_it_does_not_have():
    desk = Desk()
    combining = Combining(desk, at_once=1)
    busy = threading.Thread(target=combining.run, args=(2,))
    busy.start()
    assert desk.begun.wait(PATIENCE)
    copy = os.fork()
    if copy == 0:
        os._exit(0 if combining.run(4) == 8 else 1)
    status = wait_for(copy)
    desk.gate.set()
    busy.join(PATIENCE)
    assert os.waitstatus_to_exitcode(status) == 0


def wait_for(process: int) -> int:
    """The status with which it ended; a copy that hangs is ended, and fails."""
    hung = threading.Timer(PATIENCE, os.kill, (process, 9))
    hung.start()
    try:
        return os.waitpid(process, 0)[1]
    finally:
        hung.cancel()


def test_an_error_is_raised_and_not_returned():
    desk = Desk()
    desk.gate.set()
    with pytest.raises(Conflict, match="3 is odd"):
        Combining(desk).run(3)


def test_while_one_group_is_at_work_another_begins_and_what_comes_then_waits():
    desk = Desk()
    combining = Combining(desk)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(combining.run, 2)
        assert desk.begun.wait(PATIENCE)
        assert combining.run(4) == 8
        assert desk.groups == [[2], [4]]
        desk.gate.set()
        assert first.result(PATIENCE) == 4


def test_many_at_once_hear_each_of_its_own():
    desk = Desk()
    desk.begun.set()
    combining = Combining(desk)

    def come(thread: int) -> list[int]:
        return [combining.run(2 * (1_000 * thread + turn)) for turn in range(300)]

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(come, range(16)))
    assert told == [[4 * (1_000 * thread + turn) for turn in range(300)] for thread in range(16)]
    assert sorted(number for group in desk.groups for number in group) == sorted(
        number for group in desk.filed for number in group
    )
    assert sum(map(len, desk.groups)) == 16 * 300
    assert combining._leading == set()
    assert not combining._waiting


def test_one_that_gives_up_waiting_leaves_the_others_their_turn():
    desk = Desk()
    combining = Combining(desk, at_once=1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(combining.run, 2)
        assert desk.begun.wait(PATIENCE)
        second = pool.submit(combining.run, 4)
        while not combining._waiting:
            pass
        waiting = combining._waiting[0]
        third = pool.submit(combining.run, 6)
        while len(combining._waiting) < 2:
            pass
        waiting.outcome = Conflict("interrupted")
        combining._waiting.remove(waiting)
        waiting.woken.release()
        assert isinstance(second.exception(PATIENCE), Conflict)
        desk.gate.set()
        assert (first.result(PATIENCE), third.result(PATIENCE)) == (4, 12)
