"""The flusher: an outcome is kept until it is written, and only a refused outcome becomes a failure."""

from types import SimpleNamespace

import pytest

from callboard.jobs.errors import Busy, Unavailable
from callboard.workers.report import flusher
from callboard.workers.report.flusher import Flusher


class Store:
    """Ends whose writes fail with these errors, one after another, and then succeed."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.written: list[str] = []

    def hand_back(self, held):
        assert held == []

    def finish(self, ends):
        if self.errors:
            raise self.errors.pop(0)
        self.written += [end.id for end in ends]
        return {end.id: end for end in ends}


@pytest.mark.parametrize("passing", [Unavailable("Postgres does not answer"), Busy("cancelled")])
def test_an_outage_while_outcomes_are_written_one_by_one_makes_no_failure(monkeypatch, passing):
    monkeypatch.setattr(flusher, "_RETRY_AFTER", (0.0,))
    store = Store(LookupError("one outcome of the batch is refused"), passing, passing)
    attempts = [SimpleNamespace(finish=SimpleNamespace(id=name), unwritable=pytest.fail) for name in "ab"]
    made = Flusher(store, slots=None, announcer=None)
    with pytest.raises(LookupError):
        store.finish([attempt.finish for attempt in attempts])
    made._write_one_by_one(attempts)
    assert store.written == ["a", "b"]


def test_an_outcome_that_is_refused_alone_becomes_a_failure():
    store, refused = Store(LookupError("refused")), []
    attempt = SimpleNamespace(finish=SimpleNamespace(id="a"), unwritable=refused.append)
    Flusher(store, slots=None, announcer=None)._write_one_by_one([attempt])
    assert [str(error) for error in refused] == ["refused"]
    assert store.written == ["a"]
