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
    writer = board.writer()
    place = writer.put(ONE)
    writer.put(TWO, 7.0, 5.0)
    assert set(board.started()) == {ONE, TWO}
    writer.clear(place)
    assert board.started() == board.begun() == [TWO]


def test_a_job_that_has_ended_has_begun_until_its_end_is_committed():
    board = Board(1, 2)
    writer = board.writer()
    place = writer.end(writer.put(ONE, 7.0, 5.0))
    assert (board.started(), board.begun(), board.overdue(9.0)) == ([], [ONE], {})
    board.force([(ONE, 3.0)])
    assert board.overdue(9.0) == {}
    writer.put(TWO)
    assert (board.started(), set(board.begun())) == ([TWO], {ONE, TWO})
    writer.clear(place)
    assert board.begun() == [TWO]


def test_there_is_always_room_for_the_jobs_that_run_however_many_ends_are_not_committed():
    board = Board(2, 3)
    writer = board.writer()
    kept = [writer.end(writer.put(uuid4())) for _ in range(9)]
    assert [place >= 0 for place in kept] == [True] * 3 + [False] * 6
    assert len(board.begun()) == 3
    places = [writer.put(uuid4())]
    assert len(board.started()) == 1
    for place in [*places, *kept[:3]]:
        writer.clear(place)
    assert board.begun() == []
    for _ in range(5):
        writer.put(uuid4())
    assert len(board.started()) == 5


def test_a_job_whose_end_was_not_committed_when_its_process_died_is_a_suspect():
    board = Board(2, 2)
    writer = board.writer()
    writer.end(writer.put(ONE))
    late = child_of(board, code=-signal.SIGABRT)
    assert late.death(stopping=False).suspects == [ONE]
    assert not late.has_failed(stopping=False)


def test_a_job_that_ended_before_the_kill_for_it_is_not_overdue():
    board = Board(2, 2)
    writer = board.writer()
    place = writer.put(ONE, 5.0, 3.0)
    late = child_of(board, code=-9)
    late.kill_for(late.look(6.0, trusted=True))
    writer.end(place)
    death = late.death(stopping=False)
    assert (death.suspects, death.overdue) == ([], {})


def test_only_what_runs_beyond_its_deadline_is_overdue():
    board = Board(3)
    writer = board.writer()
    writer.put(uuid4())
    place = writer.put(ONE, 7.0, 5.0)
    writer.put(TWO, 9.0, 6.0)
    assert (board.overdue(7.0), board.overdue(8.0), board.overdue(10.0)) == (
        {},
        {ONE: 5.0},
        {ONE: 5.0, TWO: 6.0},
    )
    writer.clear(place)
    writer.put(uuid4())
    assert board.overdue(8.0) == {}


def test_a_forced_cancellation_is_overdue_while_its_job_runs_and_until_it_is_taken_back():
    board = Board(2)
    writer = board.writer()
    place = writer.put(ONE)
    board.force([(ONE, 3.0), (TWO, 1.0)])
    assert (board.overdue(2.0), board.overdue(4.0)) == ({}, {ONE: 0.0})
    board.force([])
    assert board.overdue(4.0) == {}
    board.force([(ONE, 3.0)])
    writer.clear(place)
    assert board.overdue(4.0) == {}


def test_more_forced_cancellations_than_there_is_room_for_wait_for_the_first():
    board = Board(40)
    writer, jobs = board.writer(), [uuid4() for _ in range(40)]
    for job in jobs:
        writer.put(job)
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
    board.writer().put(ONE)
    death = child_of(board, code=code).death(stopping=False)
    assert (death.suspects, death.overdue) == ([ONE], {})
    assert told in death.how


@pytest.mark.parametrize(
    ("code", "dismissed", "asked"), [(0, False, True), (-9, True, False), (-9, True, True)]
)
def test_a_child_that_was_to_end_leaves_no_suspects(code, dismissed, asked):
    board = Board(2)
    board.writer().put(ONE)
    assert child_of(board, code=code, dismissed=dismissed).death(stopping=asked).suspects == []


def test_a_child_that_was_killed_for_a_job_blames_that_one_alone_if_it_still_ran():
    board = Board(3)
    writer = board.writer()
    place, _ = writer.put(ONE, 5.0, 3.0), writer.put(TWO)
    late = child_of(board, code=-9)
    overdue = late.look(6.0, trusted=True)
    late.kill_for(overdue)
    assert late.look(7.0, trusted=True) == {}
    death = late.death(stopping=False)
    assert (death.suspects, death.overdue) == ([], {ONE: 3.0})
    writer.clear(place)
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
