"""What a supervisor makes of children that die young."""

import signal
from types import SimpleNamespace
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from callboard.config.settings import Settings
from callboard.workers.board import Board
from callboard.workers.exit_codes import EXIT_CONFIG, EXIT_REPLACED, EXIT_UNAVAILABLE
from callboard.workers.supervise.child_process import ChildProcess
from callboard.workers.supervise.fork_client import ForkClient
from callboard.workers.supervise.lone_children import missing
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


class FakeTime:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def supervisor(ended):
    return Supervisor(Settings(), "", "", SimpleNamespace(workers=ended), ForkClient(), clock=FakeTime())


def child(*, code=None, begun=(), ready=False, step="", fault="", born_at=1_000.0, **more):
    """A child with these jobs begun. code: how it ended; None: it is alive."""
    board = Board(4)
    writer = board.writer()
    for job in begun:
        writer.put(job)
    if ready:
        board.beat()
    board.boot.begin(step)
    board.boot.fail(fault)
    process = SimpleNamespace(is_alive=lambda: code is None, exitcode=code, pid=1, kill=lambda: None)
    return ChildProcess(uuid4(), board, process, born_at, **more)


def die(supervisor, *, code=1, **more):
    """A child has just been started, and dies."""
    supervisor._clock.now += 60.0
    dead = child(code=code, born_at=supervisor._clock.now, **more)
    dead.look(supervisor._clock.now, trusted=True)
    supervisor._children.append(dead)
    supervisor._look()
    supervisor._remove_dead()


def booted(supervisor, **more):
    """A child is ready and works on."""
    supervisor._children.append(child(ready=True, **more))
    supervisor._look()


def test_six_failed_starts_in_a_row_are_given_up(supervisor):
    for _ in range(5):
        die(supervisor)
    assert supervisor._exit_code == 0
    die(supervisor, code=EXIT_UNAVAILABLE)
    assert supervisor._exit_code == EXIT_UNAVAILABLE


def test_a_worker_that_was_ready_once_is_not_given_up(supervisor):
    booted(supervisor)
    for _ in range(20):
        die(supervisor, code=EXIT_CONFIG)
    assert supervisor._exit_code == 0
    assert supervisor._failed.room(0, supervisor._clock.now + 29.0) == 0
    assert supervisor._failed.room(0, supervisor._clock.now + 31.0) == 1


def test_the_second_failed_start_and_those_after_it_are_followed_by_a_pause(supervisor):
    booted(supervisor)
    rooms = []
    for _ in range(3):
        die(supervisor, code=-signal.SIGKILL)
        rooms.append(supervisor._failed.room(0, supervisor._clock.now))
    assert rooms == [None, 0, 0]
    supervisor._clock.now += 3.0
    assert [supervisor._failed.room(booting, supervisor._clock.now) for booting in (0, 1)] == [1, 0]


def test_a_child_that_works_ends_the_count_of_failed_starts_and_one_that_is_only_ready_does_not(supervisor):
    booted(supervisor)
    die(supervisor)
    die(supervisor)
    booted(supervisor, born_at=supervisor._clock.now)
    assert supervisor._failed.count == 2
    booted(supervisor, begun=[uuid4()])
    assert supervisor._failed.count == 0


def test_children_that_were_started_together_and_share_a_fault_are_one_failure_told_once(supervisor):
    booted(supervisor)
    supervisor._children += [child(code=EXIT_CONFIG, fault="no module x") for _ in range(3)]
    with capture_logs() as told:
        supervisor._remove_dead()
    assert supervisor._failed.count == 1
    assert [event["event"] for event in told if event.get("reason") == "no module x"] == [
        "worker.boot_failed"
    ]


@pytest.mark.parametrize(
    ("dead", "code"),
    [
        ({"code": EXIT_CONFIG, "fault": "a setting"}, EXIT_CONFIG),
        ({"code": 0, "step": "imported the module 'x'"}, EXIT_CONFIG),
        ({"code": 9, "step": "imported the module 'x'"}, EXIT_CONFIG),
        ({"code": -signal.SIGSEGV, "step": "imported the module 'x'"}, EXIT_CONFIG),
        ({"code": -signal.SIGKILL, "step": "imported the module 'x'", "hung": True}, EXIT_CONFIG),
        ({"code": -signal.SIGKILL, "step": "imported the module 'x'"}, 0),
        ({"code": -signal.SIGKILL, "step": "published its jobs", "hung": True}, 0),
        ({"code": EXIT_UNAVAILABLE, "fault": "Postgres is away"}, 0),
        ({"code": 1}, 0),
    ],
)
def test_only_a_first_start_that_would_fail_again_in_the_same_way_ends_the_worker_at_once(
    supervisor, dead, code
):
    die(supervisor, **dead)
    assert supervisor._exit_code == code


@pytest.mark.parametrize(
    ("dead", "told"),
    [
        ({"code": EXIT_CONFIG, "fault": "a setting is wrong"}, "a setting is wrong"),
        ({"code": 3}, "the process exited with code 3"),
        ({"code": 0, "ready": True}, "the process exited with code 0 soon after it was ready"),
        (
            {"code": -signal.SIGKILL, "step": "published its jobs"},
            "the process was killed by SIGKILL, as happens when memory runs out while it published its jobs",
        ),
        (
            {"code": -signal.SIGKILL, "hung": True, "step": "imported the module 'x'"},
            "the process was not ready after 60 s while it imported the module 'x'",
        ),
    ],
)
def test_the_message_says_how_far_a_child_came_and_how_it_ended(dead, told):
    assert child(**dead).boot_fault() == told


@pytest.mark.parametrize(
    "more",
    [
        {"begun": [uuid4()], "ready": True},
        {"solo": True},
        {"dismissed": True},
        {"code": 0, "ready": True, "solo": True},
    ],
)
def test_other_deaths_are_no_failed_starts_however_many(supervisor, more):
    for _ in range(9):
        die(supervisor, **more)
    assert (supervisor._exit_code, supervisor._failed.count) == (0, 0)


def test_a_lone_child_that_cannot_start_does_not_end_the_worker(supervisor):
    die(supervisor, code=EXIT_CONFIG, solo=True)
    assert supervisor._exit_code == 0


@pytest.mark.parametrize("begun", [[], [uuid4()]])
def test_a_lone_child_that_is_killed_is_replaced_at_once(supervisor, begun):
    die(supervisor, code=-signal.SIGKILL, solo=True, ready=bool(begun), begun=begun)
    assert supervisor._ask_at <= supervisor._clock.now
    assert supervisor._lone_failed.room(0, supervisor._clock.now) is None


def test_a_stop_does_not_wait_for_a_child_that_imports_its_jobs(supervisor):
    importing = child(step="imported the module 'x'")
    ended = []
    importing.process.is_alive = lambda: not ended
    importing.process.kill = lambda: ended.append(True)
    importing.process.terminate = lambda: None
    supervisor._children.append(importing)
    supervisor._stop()
    assert supervisor._children == []
    assert (supervisor._failed.count, supervisor._exit_code) == (0, 0)


def lone(count, **more):
    return [child(solo=True, **more) for _ in range(count)]


def busy(count, since=1_000.0):
    """Lone children that run a job each, since then."""
    made = lone(count, ready=True, begun=[uuid4()])
    for one in made:
        one.look(since, trusted=True)
    return made


@pytest.mark.parametrize(
    ("children", "waiting", "more"),
    [
        ([], 0, 0),
        ([], 1, 1),
        ([], 9, 2),
        (lone(1), 9, 1),
        (lone(2), 9, 0),
        (lone(1, ready=True), 1, 0),
        (busy(1), 1, 1),
        (busy(5), 9, 1),
        (busy(6), 9, 0),
        (busy(6, since=900.0), 1, 1),
        (busy(11, since=900.0), 9, 1),
        (busy(12, since=900.0), 9, 0),
        (lone(2, ready=True, dismissed=True), 1, 1),
        ([child(ready=True)], 1, 1),
    ],
)
def test_lone_children_are_started_while_suspects_wait_and_long_runs_do_not_take_their_places(
    children, waiting, more
):
    assert missing(children, waiting, 1_000.0) == more


def test_what_had_begun_is_suspected_whatever_the_code_unless_a_stop_was_asked_for(supervisor, ended):
    job = uuid4()
    die(supervisor, code=0, begun=[job], ready=True)
    supervisor._stopping.set()
    die(supervisor, code=0, begun=[job], ready=True)
    assert [suspects for _, suspects, _ in ended.told] == [[job], []]


def test_a_child_that_asks_to_be_replaced_blames_no_job(supervisor, ended):
    die(supervisor, code=EXIT_REPLACED, begun=[uuid4()], ready=True)
    assert [suspects for _, suspects, _ in ended.told] == [[]]


def test_a_child_that_must_be_replaced_has_another_in_its_place_and_is_killed_when_it_does_not_end(
    supervisor, ended
):
    leaving = child(ready=True, begun=[uuid4()], code=None)
    supervisor._children.append(leaving)
    leaving.board.leave("a job closed files", supervisor._clock.now + 9, worked=True)
    supervisor._look()
    supervisor._start = lambda number, *, solo: supervisor._children.extend(
        child(ready=True) for _ in range(number)
    )
    supervisor._tables_fit = lambda: True
    for _ in range(3):
        supervisor._start_missing()
    assert (len(supervisor._children), leaving.hung) == (supervisor._settings.processes + 1, False)
    supervisor._clock.now += 10
    supervisor._look()
    leaving.process = SimpleNamespace(is_alive=lambda: False, exitcode=-9, pid=1)
    with capture_logs() as told:
        supervisor._remove_dead()
    assert [told[1:] for told in ended.told] == [([], {})]
    (event,) = told
    assert (event["event"], event["reason"]) == (
        "worker.exited", "a job closed files; it did not end in time and was killed",
    )  # fmt: skip


def test_who_is_condemned_is_blamed_alone(supervisor, ended):
    late, other, done = uuid4(), uuid4(), uuid4()
    die(supervisor, code=-9, begun=[late, other], killed_for={late: 3.0, done: 2.0})
    assert [told[1:] for told in ended.told] == [([], {late: 3.0})]


def test_without_a_process_for_a_child_the_worker_goes_on_and_tries_again_later(supervisor, monkeypatch):
    """As at a limit of processes, which other programs may have used up."""
    booted(supervisor)
    starts = []

    def refuse(*_, **__):
        starts.append(1)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(ChildProcess, "start", refuse)
    with capture_logs() as told:
        for _ in range(3):
            supervisor._start(2, solo=False)
    assert len(starts) == 3
    assert told[0]["reason"] == "no process could be started: Resource temporarily unavailable"
    assert [event["failures"] for event in told] == [1, 2, 3]
    assert supervisor._failed.room(0, supervisor._clock.now) == 0
    assert supervisor._exit_code == 0


def test_a_worker_that_never_gets_a_process_is_given_up(supervisor, monkeypatch):
    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(ChildProcess, "start", refuse)
    for _ in range(6):
        assert supervisor._exit_code == 0
        supervisor._start(1, solo=False)
    assert supervisor._exit_code == 1


def test_an_error_of_the_supervisor_stops_its_children(supervisor, monkeypatch):
    """Else the interpreter waits for them, and they work on without a lease."""
    ended = []
    booting = child()
    booting.process.is_alive = lambda: not ended
    booting.process.kill = booting.process.terminate = lambda: ended.append(1)
    supervisor._children.append(booting)
    monkeypatch.setattr(supervisor, "_keep_running", lambda: 1 / 0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(ZeroDivisionError):
            supervisor.run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert ended
