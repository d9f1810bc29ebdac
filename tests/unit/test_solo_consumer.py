"""When a lone child claims its next job, and when it ends."""

from threading import Event
from types import SimpleNamespace
from uuid import uuid4

import pytest

from callboard.jobs.errors import Unavailable
from callboard.workers.fetch.solo import SoloConsumer


class Lone:
    """A lone consumer, with what its claims return, one after the other."""

    def __init__(self, *claims):
        self.now, self.held, self.accepted, self.asked = 0.0, 0, [], 0
        self.claims = SimpleNamespace(
            worker=uuid4(),
            served_queues=lambda _: [],
            claim_solo=self._claim,
            with_arguments=list,
            has_unanswered=False,
        )
        self._answers = list(claims)
        draining = Event()
        # A wait lets the clock go on.
        draining.wait = self._pass
        self.consumer = SoloConsumer(
            claims=self.claims,
            transport=None,
            definitions={},
            queues=["reports"],
            slots=SimpleNamespace(count=lambda: self.held, wait_empty=self._pass),
            ends=None,
            loop=None,
            work_queue=None,
            make_attempt=None,
            draining=draining,
            clock=SimpleNamespace(monotonic=lambda: self.now),
        )
        self.consumer._accept = self.accepted.append
        self.draining = draining

    def turn(self, times=1):
        for _ in range(times):
            next(self.consumer)

    @property
    def is_settled(self):
        return self.consumer.settled.is_set()

    def _pass(self, seconds):
        self.now += seconds

    def _claim(self, *_):
        self.asked += 1
        answer = self._answers.pop(0) if self._answers else []
        if isinstance(answer, Exception):
            raise answer
        self.held = len(answer)
        return answer


def test_the_next_job_is_claimed_when_the_outcome_of_the_last_one_is_stored():
    lone = Lone(["one"], ["two"])
    lone.turn(9)
    assert lone.accepted == [["one"]]
    lone.held = 0
    lone.turn()
    assert lone.accepted == [["one"], ["two"]]


def test_it_is_kept_for_a_while_without_a_job_and_then_ends():
    lone = Lone(["one"])
    lone.turn(100)
    lone.held = 0
    lone.turn(30)
    assert not lone.is_settled
    lone.turn(100)
    assert lone.is_settled
    asked = lone.asked
    lone.turn(9)
    assert lone.asked == asked


@pytest.mark.parametrize("unanswered", [True, False])
def test_after_a_claim_whose_answer_was_lost_it_claims_no_other_job(unanswered):
    lone = Lone(Unavailable("away"), ["one"])
    lone.claims.has_unanswered = unanswered
    lone.turn(2)
    assert (lone.is_settled, lone.accepted) == ((True, []) if unanswered else (False, [["one"]]))


def test_while_it_drains_it_claims_nothing():
    lone = Lone(["one"])
    lone.draining.set()
    lone.consumer._fill()
    assert lone.accepted == []
