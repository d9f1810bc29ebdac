"""The timer feeds a limited queue when its rate has places again, and outlives errors."""

import time
from types import SimpleNamespace

import pytest

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.scheduler.rate_timer import RateTimer


class Stage:
    """A timer with a feeder that notes what it is told, and fails as often as it should."""

    def __init__(self, failures=()):
        self.fed, self._failures = [], list(failures)
        self.leader = SimpleNamespace(leads=True)
        self.timer = RateTimer(self, self.leader, SYSTEM)
        self.timer.start()

    def feed_limited(self, queues):
        self.fed.append((time.monotonic(), list(queues)))
        if self._failures:
            raise self._failures.pop(0)

    def wait_fed(self, count):
        deadline = time.monotonic() + 5
        while len(self.fed) < count:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def stage():
    made = []
    yield lambda *failures: made.append(Stage(failures)) or made[-1]
    for one in made:
        one.timer.stop()


def test_a_queue_is_fed_when_its_rate_has_a_place_and_not_before(stage):
    here, began = stage(), time.monotonic()
    here.timer.call_in("mail", 0.15)
    here.wait_fed(1)
    at, queues = here.fed[0]
    assert queues == ["mail"]
    assert at - began >= 0.15


def test_what_is_far_away_is_left_to_the_feeder(stage):
    here = stage()
    here.timer.call_in("far", 3_600)
    here.timer.call_in("near", 0.02)
    here.wait_fed(1)
    assert [queues for _, queues in here.fed] == [["near"]]


def test_a_standby_feeds_nothing(stage):
    here = stage()
    here.leader.leads = False
    here.timer.call_in("standby", 0.0)
    deadline = time.monotonic() + 5
    while here.timer._due:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    here.leader.leads = True
    here.timer.call_in("leader", 0.0)
    here.wait_fed(1)
    assert [queues for _, queues in here.fed] == [["leader"]]


def test_it_goes_on_after_many_errors(stage):
    failures = [Unavailable("away"), ValueError("a defect")] * 8
    here = stage(*failures)
    for number in range(len(failures) + 1):
        here.timer.call_in("mail", 0.0)
        here.wait_fed(number + 1)
    assert here.timer.is_alive()
