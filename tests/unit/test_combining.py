"""Combining: who comes at the same time is done together, and each hears of its own."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.errors import Conflict, Unavailable
from jobs.services.combining import Combining

PATIENCE = 10.0


class Desk:
    """Does the work: doubles numbers, refuses odd ones; the first group is held up until the gate opens."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.breaks: BaseException | None = None

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(numbers))
        if not self.begun.is_set():
            self.begun.set()
            assert self.gate.wait(PATIENCE)
            if self.breaks is not None:
                raise self.breaks
        return [Conflict(f"{number} is odd") if number % 2 else number * 2 for number in numbers]


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
    assert desk.groups == [[2], [4]]


def test_who_comes_meanwhile_is_done_together_and_an_error_is_its_own_callers_alone():
    desk = Desk()
    answers = come_meanwhile(desk, Combining(desk), 2, [4, 5, 6, 8])
    assert sorted(answer for answer in answers if isinstance(answer, int)) == [4, 8, 12, 16]
    assert [str(answer) for answer in answers if isinstance(answer, Exception)] == ["5 is odd"]
    assert [sorted(group) for group in desk.groups] == [[2], [4, 5, 6, 8]]


def test_work_that_fails_is_told_to_whom_it_was_for_and_the_next_are_done():
    desk = Desk()
    desk.breaks = Unavailable("not now")
    answers = come_meanwhile(desk, Combining(desk), 2, [4])
    assert (str(answers[0]), answers[1]) == ("not now", 8)


def test_who_was_done_by_somebody_who_was_interrupted_hears_that_it_may_not_be_done():
    desk = Desk()
    combining = Combining(desk)
    first = [2]

    def interrupted(numbers: Sequence[int]) -> list[int | Exception]:
        if first:
            first.clear()
            return desk(numbers)
        raise KeyboardInterrupt

    combining = Combining(interrupted)
    answers = come_meanwhile(desk, combining, 2, [4, 6])
    assert answers[0] == 4
    assert sorted(type(answer).__name__ for answer in answers[1:]) == ["KeyboardInterrupt", "Unavailable"]


def test_a_copy_of_the_process_does_not_wait_for_a_thread_that_it_does_not_have():
    desk = Desk()
    combining = Combining(desk)
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
