"""A job's name that two functions take, and declarations that are no second job."""

import importlib
import sys

import dramatiq
import pytest

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.errors import InvalidInput

JOB = "from callboard import job\n\n@job\ndef notify(): return 1\n"
ACTOR = "import dramatiq\n\n@dramatiq.actor\ndef notify(): return 2\n"


@pytest.fixture
def broker(monkeypatch):
    made = CallboardBroker(lambda: pytest.fail("nothing connects here"), middleware=[])
    monkeypatch.setattr(dramatiq.broker, "global_broker", made)
    return made


@pytest.fixture
def load(broker, tmp_path, monkeypatch):
    """Write a module and import it, under this name or another."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write_and_import(module, source=None, name=None):
        if source is not None:
            (tmp_path / f"{module}.py").write_text(source)
        importlib.invalidate_caches()
        return importlib.import_module(name or module)

    yield write_and_import
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("first", [JOB, ACTOR])
@pytest.mark.parametrize("second", [JOB, ACTOR])
def test_two_modules_with_a_job_of_one_name_are_refused_with_both_places(load, tmp_path, first, second):
    load("one_jobs", first)
    with pytest.raises(InvalidInput) as caught:
        load("two_jobs", second)
    assert caught.value.message.startswith("two jobs have the name 'notify': in ")
    for name in ("one_jobs", "two_jobs"):
        assert f"module {name} ({tmp_path}/{name}.py, line 3)" in caught.value.message


@pytest.mark.parametrize("source", [JOB, ACTOR])
def test_one_module_with_two_jobs_of_one_name_is_refused_with_both_lines(load, source):
    with pytest.raises(InvalidInput, match=r"line 3\) and in .* line 7\)"):
        load("twice_jobs", f"{source}\n\n{source.split(chr(10), 2)[2]}")


def test_wrappers_that_hide_the_names_of_two_functions_are_refused(load):
    source = """
from callboard import job

def wrapped(function):
    def inner():
        return function()
    return inner

@job
@wrapped
def one(): ...

@job
@wrapped
def two(): ...
"""
    with pytest.raises(InvalidInput, match=r"'inner'.* line (9|10|11).* line (13|14|15)"):
        load("hidden_jobs", source)


def test_one_module_under_two_names_is_refused_with_the_reason(load, tmp_path):
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "inner_jobs.py").write_text(JOB)
    sys.path.append(str(tmp_path / "myapp"))
    try:
        load("inner_jobs")
        with pytest.raises(InvalidInput, match="one file is imported under two names") as caught:
            load("inner_jobs", name="myapp.inner_jobs")
    finally:
        sys.path.remove(str(tmp_path / "myapp"))
    assert "module inner_jobs (" in caught.value.message
    assert "module myapp.inner_jobs (" in caught.value.message


@pytest.mark.parametrize("source", [JOB, ACTOR])
def test_a_reload_replaces_the_job(load, broker, tmp_path, source):
    module = load("again_jobs", source)
    first = broker.actors["notify"]
    (tmp_path / "again_jobs.py").write_text(f"# longer now\n\n{source}")
    importlib.reload(module)
    assert broker.actors["notify"] is module.notify is not first
    del sys.modules["again_jobs"]
    assert load("again_jobs").notify is broker.actors["notify"]


def test_a_function_that_is_made_a_job_twice_is_one_job(broker):
    def notify(): ...

    first, second = dramatiq.actor(notify), dramatiq.actor(notify)
    assert broker.actors == {"notify": second}
    assert first is not second


def test_a_factory_that_runs_again_makes_the_same_job(broker):
    def make():
        @dramatiq.actor
        def notify(): ...

        return notify

    make()
    assert make() is broker.actors["notify"]


def test_dramatiq_sees_an_error_of_its_own_kind_and_the_actors_as_they_are(broker):
    @dramatiq.actor
    def notify(): ...

    with pytest.raises(ValueError, match="two jobs have the name 'notify'"):
        dramatiq.actor(actor_name="notify")(lambda: None)
    assert "notify" in broker.actors
    assert "other" not in broker.actors


def test_classes_as_actors_are_told_apart(broker):
    class Notify(dramatiq.GenericActor):
        def perform(self): ...

    with pytest.raises(InvalidInput, match="two jobs have the name 'Notify'"):

        class Notify(dramatiq.GenericActor):
            def perform(self): ...
