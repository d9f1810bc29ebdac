"""The board between child and supervisor, and what a child's death says by it."""

import signal
from types import SimpleNamespace
from uuid import uuid4

import pytest

from callboard.jobs.model.basics.clock import SYSTEM
from callboard.workers.board import Board
from callboard.workers.fetch.slots import Slots
from callboard.workers.report.monitor import Monitor
from callboard.workers.supervise.child_process import LONGEST_BOOT, ChildProcess

ONE, TWO = uuid4(), uuid4()


def child_of(board: Board, *, code: int | None = None, **more) -> ChildProcess:
    process = SimpleNamespace(exitcode=code, pid=1, kill=lambda: None)
    return ChildProcess(uuid4(), board, process, 0.0, **more)


def test_what_has_begun_and_not_ended_stands_on_the_board():
    board = Board(2)
    put = board.writer()
    off = put(ONE, 0.0, 0.0)
    put(TWO, 7.0, 5.0)
    assert set(board.started()) == {ONE, TWO}
    off()
    assert board.started() == [TWO]


def test_only_what_runs_beyond_its_deadline_is_overdue():
    board = Board(3)
    put = board.writer()
    put(uuid4(), 0.0, 0.0)
    off = put(ONE, 7.0, 5.0)
    put(TWO, 9.0, 6.0)
    assert (board.overdue(7.0), board.overdue(8.0), board.overdue(10.0)) == (
        {},
        {ONE: 5.0},
        {ONE: 5.0, TWO: 6.0},
    )
    off()
    put(uuid4(), 0.0, 0.0)
    assert board.overdue(8.0) == {}


def test_a_forced_cancellation_is_overdue_while_its_job_runs_and_until_it_is_taken_back():
    board = Board(2)
    off = board.writer()(ONE, 0.0, 0.0)
    board.force([(ONE, 3.0), (TWO, 1.0)])
    assert (board.overdue(2.0), board.overdue(4.0)) == ({}, {ONE: 0.0})
    board.force([])
    assert board.overdue(4.0) == {}
    board.force([(ONE, 3.0)])
    off()
    assert board.overdue(4.0) == {}


def test_more_forced_cancellations_than_there_is_room_for_wait_for_the_first():
    board = Board(40)
    put, jobs = board.writer(), [uuid4() for _ in range(40)]
    for job in jobs:
        put(job, 0.0, 0.0)
    board.force([(job, float(number)) for number, job in enumerate(jobs, 1)])
    assert set(board.overdue(99.0)) == set(jobs[:16])


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (1, "exited with code 1"),
        (0, "exited with code 0"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-signal.SIGKILL, "SIGKILL, as happens when memory runs out"),
        (-40, "killed by signal 40"),
    ],
)
def test_a_death_names_its_suspects_and_its_manner(code, told):
    board = Board(2)
    board.writer()(ONE, 0.0, 0.0)
    death = child_of(board, code=code).death(stopping=False)
    assert (death.suspects, death.overdue) == ([ONE], {})
    assert told in death.how


@pytest.mark.parametrize(
    ("code", "dismissed", "asked"), [(0, False, True), (-9, True, False), (-9, True, True)]
)
def test_a_child_that_was_to_end_leaves_no_suspects(code, dismissed, asked):
    board = Board(2)
    board.writer()(ONE, 0.0, 0.0)
    assert child_of(board, code=code, dismissed=dismissed).death(stopping=asked).suspects == []


def test_a_child_that_was_killed_for_a_job_blames_that_one_alone_if_it_still_ran():
    board = Board(3)
    put = board.writer()
    off, _ = put(ONE, 5.0, 3.0), put(TWO, 0.0, 0.0)
    late = child_of(board, code=-9)
    overdue = late.look(6.0, trusted=True)
    late.kill_for(overdue)
    assert late.look(7.0, trusted=True) == {}
    death = late.death(stopping=False)
    assert (death.suspects, death.overdue) == ([], {ONE: 3.0})
    off()
    death = late.death(stopping=False)
    assert (death.suspects, death.overdue) == ([], {})


def test_a_child_that_shows_no_pulse_within_a_minute_hangs_and_one_that_has_shown_one_stands_still():
    board = Board(1)
    child = child_of(board)
    assert (child.hangs(LONGEST_BOOT - 1), child.hangs(LONGEST_BOOT + 1)) == (False, True)
    assert child.still(LONGEST_BOOT) == 0.0
    board.beat()
    child.look(10.0, trusted=True)
    child.look(14.0, trusted=True)
    assert (child.hangs(LONGEST_BOOT + 1), child.still(14.0)) == (False, 4.0)
    # who slept itself cannot say who stood still
    child.look(90.0, trusted=False)
    assert child.still(90.0) == 0.0


def test_the_pulse_begins_before_any_job_that_may_keep_the_interpreter():
    board = Board(1)
    monitor = Monitor(None, Slots(1, 1, 1, SYSTEM), board, SYSTEM)
    monitor.start()
    begun = board.pulse
    monitor.stop()
    assert begun >= 1
