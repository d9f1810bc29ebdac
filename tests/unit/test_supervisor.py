"""What a supervisor makes of children that die young."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from callboard.config.settings import Settings
from callboard.workers.board import Board
from callboard.workers.child import EXIT_CONFIG
from callboard.workers.supervise.child_process import ChildProcess
from callboard.workers.supervise.supervisor import Supervisor


class Ended:
    """The service that ends leases; it notes whom it was told to blame."""

    def __init__(self) -> None:
        self.told = []

    def end(self, worker, suspects, *, how, overdue):
        self.told.append((worker, suspects, overdue))
        return 0


@pytest.fixture
def ended():
    return Ended()


@pytest.fixture
def supervisor(ended):
    clock = SimpleNamespace(monotonic=lambda: 1_000.0)
    return Supervisor(Settings(), "", "", SimpleNamespace(workers=ended), clock=clock)


def die(supervisor, *, code=1, born_at=999.0, begun=(), **more):
    """A child that has died with these jobs begun."""
    board = Board(4)
    put = board.writer()
    for job in begun:
        put(job, 0.0, 0.0)
    process = SimpleNamespace(is_alive=lambda: False, exitcode=code, pid=1)
    supervisor._children.append(ChildProcess(uuid4(), board, process, born_at, **more))
    supervisor._remove_dead()


def test_five_failed_starts_in_a_row_are_given_up(supervisor):
    for _ in range(4):
        die(supervisor)
    assert supervisor._exit_code == 0
    die(supervisor)
    assert supervisor._exit_code == 1


def test_a_child_that_hangs_while_it_boots_counts_as_a_failed_start(supervisor):
    for _ in range(5):
        die(supervisor, code=-9, born_at=0.0, hung=True)
    assert supervisor._exit_code == 1


@pytest.mark.parametrize(
    "more", [{"begun": [uuid4()]}, {"solo": True}, {"dismissed": True}, {"born_at": 0.0}]
)
def test_other_deaths_are_no_failed_starts_however_many(supervisor, more):
    for _ in range(9):
        die(supervisor, **more)
    assert supervisor._exit_code == 0


def test_a_child_that_cannot_run_as_it_is_configured_ends_the_worker_but_a_lone_one_does_not(supervisor):
    die(supervisor, code=EXIT_CONFIG, solo=True)
    assert supervisor._exit_code == 0
    die(supervisor, code=EXIT_CONFIG)
    assert supervisor._exit_code == EXIT_CONFIG


def test_a_lone_child_that_died_of_its_job_holds_up_no_other_though_nobody_had_looked_at_it(supervisor):
    die(supervisor, solo=True, begun=[uuid4()])
    assert supervisor._solo_at <= 1_000.0
    die(supervisor, solo=True)
    assert supervisor._solo_at > 1_000.0


def test_what_had_begun_is_suspected_whatever_the_code_unless_a_stop_was_asked_for(supervisor, ended):
    job = uuid4()
    die(supervisor, code=0, begun=[job])
    supervisor._stopping.set()
    die(supervisor, code=0, begun=[job])
    assert [suspects for _, suspects, _ in ended.told] == [[job], []]


def test_who_is_condemned_is_blamed_alone(supervisor, ended):
    late, other, done = uuid4(), uuid4(), uuid4()
    die(supervisor, code=-9, begun=[late, other], killed_for={late: 3.0, done: 2.0})
    assert [told[1:] for told in ended.told] == [([], {late: 3.0})]
