"""`job publish` imports modules that make brokers of their own: it finds the jobs that a worker finds."""

import sys
from types import SimpleNamespace

import dramatiq
import pytest

from callboard.jobs.dramatiq.job_modules import imported_types
from callboard.jobs.errors import InvalidInput

OWN_BROKERS = """
import dramatiq
from dramatiq.brokers.stub import StubBroker
from callboard import job
from callboard.dramatiq import CallboardBroker

ours, stock = CallboardBroker(middleware=[]), StubBroker()

@job
def published_before(a: int): ...

@dramatiq.actor(broker=ours)
def published_ours(a: int): ...

dramatiq.set_broker(stock)

@dramatiq.actor
def published_stock(a: int): ...
"""
TWICE = """
import dramatiq
from dramatiq.brokers.stub import StubBroker

@dramatiq.actor(actor_name="published_twice", broker=StubBroker())
def one(a: int): ...

@dramatiq.actor(actor_name="published_twice", broker=StubBroker())
def two(b: int): ...
"""


@pytest.fixture
def types_of(tmp_path, monkeypatch):
    """The names of the job types of a module with this source."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    monkeypatch.setattr(sys, "modules", {**sys.modules})

    def types(source: str) -> list[str]:
        (tmp_path / "publishing_module.py").write_text(source)
        return sorted(kind.name for kind in imported_types(["publishing_module"], SimpleNamespace()))

    return types


def test_the_jobs_of_all_brokers_are_found_whichever_is_set_last(types_of):
    assert types_of(OWN_BROKERS) == ["published_before", "published_ours", "published_stock"]


def test_two_functions_of_one_name_on_two_brokers_are_refused(types_of):
    with pytest.raises(InvalidInput, match="published_twice"):
        types_of(TWICE)


def test_a_module_without_jobs_is_named(types_of):
    with pytest.raises(InvalidInput, match="publishing_module"):
        types_of("import dramatiq\n")
