"""When leases are renewed, and what is told with them."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from structlog import get_logger

from callboard.jobs.errors import Unavailable
from callboard.jobs.outage import Outage
from callboard.workers.board import Board
from callboard.workers.supervise.child_process import ChildProcess
from callboard.workers.supervise.lease_renewals import LeaseRenewals


class Renewed:
    """The service that renews leases; it notes what it was told."""

    def __init__(self):
        self.told = []
        self.is_away = False
        self.lost = set()

    def renew(self, ids, begun):
        self.told.append(begun)
        if self.is_away:
            raise Unavailable("away")
        return set(ids) - self.lost


@pytest.fixture
def clock():
    return SimpleNamespace(now=1_000.0)


@pytest.fixture
def workers():
    return Renewed()


@pytest.fixture
def renewals(workers, clock):
    clock.monotonic = lambda: clock.now
    outage = Outage(get_logger(), "supervisor.waiting", clock=clock)
    return LeaseRenewals(workers, timedelta(seconds=30), outage, clock)


@pytest.fixture
def child(clock):
    board = Board(4)
    board.beat()
    process = SimpleNamespace(pid=1, kill=lambda: None, terminate=lambda: None)
    return ChildProcess(uuid4(), board, process, clock.now, moved_at=clock.now)


def rounds(renewals, clock, child, seconds):
    """Call it every fifth of a second, as the supervisor does."""
    for _ in range(round(seconds * 5)):
        clock.now += 0.2
        child.moved_at = clock.now
        renewals.round([child], stopping=False)


def test_leases_are_renewed_every_five_seconds_while_nothing_begins(renewals, workers, clock, child):
    rounds(renewals, clock, child, 20)
    assert workers.told == [{child.worker_id: []}] * 4


def test_a_job_that_has_begun_is_told_within_a_second(renewals, workers, clock, child):
    rounds(renewals, clock, child, 1)
    job = uuid4()
    writer = child.board.writer()
    place = writer.put(job)
    rounds(renewals, clock, child, 1)
    writer.end(place)
    rounds(renewals, clock, child, 1)
    assert workers.told == [{child.worker_id: told} for told in ([], [job], [])]


@pytest.mark.parametrize("is_away", [False, True])
def test_jobs_that_begin_all_the_time_are_told_once_a_second(renewals, workers, clock, child, is_away):
    workers.is_away = is_away
    writer = child.board.writer()
    for _ in range(100):
        place = writer.put(uuid4())
        rounds(renewals, clock, child, 0.2)
        writer.clear(place)
    assert 18 <= len(workers.told) <= 20


def test_a_child_that_has_lost_its_lease_is_dismissed(renewals, workers, clock, child):
    workers.lost = {child.worker_id}
    rounds(renewals, clock, child, 1)
    assert child.dismissed


def test_a_child_that_leaves_ends_its_lease_itself(renewals, workers, clock, child):
    workers.lost = {child.worker_id}
    child.board.leave("a job replaced threads", clock.now + 30, worked=True)
    rounds(renewals, clock, child, 1)
    assert workers.told
    assert not child.dismissed
