"""The flusher: an outcome is kept until it is written. A refused one is written without what is at fault."""

from types import SimpleNamespace
from typing import Any

import pytest

from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.model.states import JobState, Verb
from callboard.workers.report import flusher
from callboard.workers.report.flusher import Flusher

REFUSED = LookupError("refused")


class Store:
    """Ends whose writes fail with these errors, one after another, and then succeed."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.written: list[str] = []
        self.handed_back: list[str] = []

    def hand_back(self, held):
        if held and self.errors:
            raise self.errors.pop(0)
        self.handed_back += [job.id for job in held]

    def finish(self, ends):
        if self.errors:
            raise self.errors.pop(0)
        self.written += [end.id for end in ends]
        return {end.id: SimpleNamespace(id=end.id, state=JobState.SUCCEEDED) for end in ends}

    def notify_freed(self, queues):
        assert queues == set()


class Slots:
    def __init__(self) -> None:
        self.released: list[str] = []
        self.ended: list[str] = []

    def release(self, attempts):
        self.released += [attempt.job.id for attempt in attempts]


class Harness:
    def __init__(self, *errors: Exception) -> None:
        self.store = Store(*errors)
        self.slots = Slots()
        self.flusher = Flusher(self.store, self.slots, SimpleNamespace(put=lambda _: None))
        self.bared: list[str] = []

    def attempt(self, name: str, *, started: bool = True) -> Any:
        finish = SimpleNamespace(id=name, verb=Verb.COMPLETE) if started else None
        job = SimpleNamespace(id=name, claim_id=name, queue="q", name="j", limited=False, log_fields={})
        return SimpleNamespace(
            finish=finish, job=job, began_at=None, unwritable=lambda _: self.bared.append(name)
        )


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(flusher, "_RETRY_AFTER", (0.0,))


@pytest.mark.parametrize("passing", [Unavailable("Postgres does not answer"), Busy("cancelled")])
def test_an_outage_while_outcomes_are_written_one_by_one_makes_no_failure(passing):
    harness = Harness(REFUSED, passing, passing)
    harness.flusher._flush([harness.attempt(name) for name in "ab"])
    assert (harness.store.written, harness.bared, harness.slots.released) == (["a", "b"], [], ["a", "b"])


def test_an_outcome_that_is_refused_alone_is_written_bare_and_its_neighbours_as_they_are():
    harness = Harness(REFUSED, REFUSED)
    harness.flusher._flush([harness.attempt(name) for name in "abc"])
    assert (harness.store.written, harness.bared) == (["a", "b", "c"], ["a"])
    assert harness.slots.released == ["a", "b", "c"]


def test_an_outcome_that_is_refused_bare_is_set_aside_with_its_slot_until_it_is_written():
    harness = Harness(REFUSED, REFUSED, REFUSED)
    harness.flusher._flush([harness.attempt(name) for name in "ab"])
    assert (harness.store.written, harness.slots.released) == (["b"], ["b"])
    harness.flusher._write_refused()
    assert harness.store.written == ["b"], "its pause is not over"
    harness.flusher._stopping.set()
    harness.store.errors = [REFUSED]
    harness.flusher._write_refused()
    assert harness.store.written == ["b"]
    harness.flusher._write_refused()
    assert (harness.store.written, harness.slots.released) == (["b", "a"], ["b", "a"])
    assert not harness.flusher._refused


def test_a_job_whose_hand_back_is_refused_is_handed_back_alone_or_later():
    harness = Harness(REFUSED, REFUSED, REFUSED)
    harness.flusher._flush([harness.attempt("a", started=False), harness.attempt("b")])
    assert (harness.store.handed_back, harness.store.written, harness.slots.released) == ([], ["b"], ["b"])
    harness.flusher._stopping.set()
    harness.flusher._write_refused()
    assert (harness.store.handed_back, harness.slots.released) == (["a"], ["b", "a"])
