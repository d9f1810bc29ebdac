"""A module of plain Dramatiq actors runs unchanged, callbacks, pipelines, groups, results and middleware
included.
"""

import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path

import dramatiq
import pytest
from dramatiq.results import ResultFailure, ResultMissing, ResultTimeout

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.loading import load_middleware
from callboard.jobs.model.states import JobState
from tests.e2e.stage import PATIENCE, Stage, until

MODULES = ("dramatiq_witness", "dramatiq_actors")
IN_TIME = {"block": True, "timeout": int(PATIENCE * 1000)}


@pytest.fixture
def actors(stage: Stage, monkeypatch):
    """The module as a producer imports it; it lies where the workers find it, too."""
    for name in MODULES:
        shutil.copy(Path(__file__).with_name(f"{name}.py"), stage.folder)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(stage.folder))
    monkeypatch.setenv("CALLBOARD_TEST_LEDGER", str(stage.folder / "ledger"))
    witness = load_middleware(["dramatiq_witness:Witness"])
    broker = CallboardBroker(lambda: stage.platform, middleware=witness)
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    yield import_module("dramatiq_actors")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def running(stage: Stage, actors):
    """A worker and a scheduler."""
    stage.start("scheduler")
    return stage.worker(jobs="dramatiq_actors", middleware="dramatiq_witness:Witness")


def notes(stage: Stage) -> list[str]:
    file = stage.folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


def test_what_an_actor_returns_can_be_had(stage, actors, running):
    assert actors.add.send(1, y=2).get_result(**IN_TIME) == 3
    assert actors.add_async.send(1, 2).get_result(**IN_TIME) == 3
    assert actors.Greeter.send("you").get_result(**IN_TIME) == "hello you"
    delayed = actors.add.send_with_options(args=(2, 2), delay=3_600_000)
    with pytest.raises(ResultMissing):
        delayed.get_result()
    with pytest.raises(ResultTimeout):
        delayed.get_result(block=True, timeout=60)


def test_a_message_arrives_with_the_options_it_was_sent_with(stage, actors, running):
    sent = actors.whoami.send_with_options(max_retries=3, tenant={"id": 7})
    assert sent.get_result(**IN_TIME) == {
        "options": {"max_retries": 3, "tenant": {"id": 7}, "traced": "yes"},
        "id": sent.message_id,
        "queue": "default",
    }


def test_middleware_of_the_users_own_sees_sync_and_async_jobs_alike(stage, actors, running):
    assert actors.add.send(1, 2).get_result(**IN_TIME) == 3
    assert notes(stage) == ["before add default yes", "after add 3"]
    assert actors.add_async.send(1, 2).get_result(**IN_TIME) == 3
    assert notes(stage)[2:] == ["before add_async async yes", "after add_async 3"]


@pytest.mark.parametrize("name", ["add", "add_async"])
def test_middleware_can_skip_a_job_or_make_a_failure_of_it(stage, actors, running, name):
    actor = getattr(actors, name)
    skipped = actor.send_with_options(args=(1, 2), skip=True)
    assert skipped.get_result(**IN_TIME) is None
    job = stage.job(skipped.message_id)
    assert job.state is JobState.CANCELLED
    assert (job.errors[0]["class"], job.errors[0]["message"]) == (
        "dramatiq.middleware.middleware.SkipMessage", "not today",
    )  # fmt: skip
    assert notes(stage) == [f"skipped {name}"]
    refused = actor.send_with_options(args=(1, 2), refuse=True)
    with pytest.raises(ResultFailure):
        refused.get_result(**IN_TIME)
    assert stage.job(refused.message_id).state is JobState.FAILED
    until(lambda: f"nack {name}" in notes(stage))


def test_a_pipeline_hands_each_result_to_the_next(stage, actors, running):
    line = actors.add.message(1, 2) | actors.add_async.message(3) | actors.add.message(4)
    line.run()
    assert line.get_result(**IN_TIME) == 10
    assert list(line.get_results()) == [3, 6, 10]
    assert line.completed


def test_a_group_calls_back_once_when_all_of_it_is_done(stage, actors, running):
    group = dramatiq.group([actors.add.message(1, 1), actors.add.message(1, 2) | actors.add_async.message(3)])
    group.add_completion_callback(actors.told.message({"actor_name": "group", "options": {}}, "done"))
    group.run()
    assert list(group.get_results(**IN_TIME)) == [2, 6]
    until(lambda: "told group None done" in notes(stage))
    assert group.completed
    until(lambda: stage.states() == {"succeeded": 4})


def test_callbacks_follow_success_failure_and_the_last_retry(stage, actors, running):
    actors.add.send_with_options(args=(1, 2), on_success=actors.told)
    until(lambda: "told add None 3" in notes(stage))
    with pytest.raises(ResultFailure, match="actor raised ValueError: no"):
        actors.fails.send().get_result(**IN_TIME)
    failure = "{'type': 'ValueError', 'message': 'no'}"
    expected = [
        f"told fails 1 {failure}",
        f"told fails 2 {failure}",
        "told fails 2 {'retries': 1, 'max_retries': 1}",
    ]
    until(lambda: len([line for line in notes(stage) if line.startswith("told fails")]) == 3)
    assert sorted(line for line in notes(stage) if line.startswith("told fails")) == sorted(expected)


def test_an_outcome_that_is_returned_has_its_callbacks_too(stage, actors, running):
    actors.gives_up.send()
    until(lambda: "told gives_up 1 {'type': 'Fail', 'message': 'for good'}" in notes(stage))


def test_retries_and_time_limits_are_those_of_dramatiq(stage, actors, running):
    assert actors.retries_when_asked.send().get_result(**IN_TIME) == 2
    slow = actors.too_slow.send()
    with pytest.raises(ResultFailure, match=r"timeout of 0\.3 s"):
        slow.get_result(**IN_TIME)
    assert notes(stage)[0] == "interrupted"
    errors = stage.job(slow.message_id).errors
    assert [error["class"] for error in errors] == ["TimedOut"]


def test_a_job_that_asked_for_it_hears_of_a_shutdown_at_once(stage, actors, running):
    message = actors.waits_for_the_end.send()
    until(lambda: "waiting" in notes(stage))
    running.send(signal.SIGTERM)
    assert running.ends() == 0
    assert "shutdown" in notes(stage)
    assert stage.job(message.message_id).state is JobState.SUCCEEDED


def test_a_setting_that_names_no_middleware_stops_the_worker_with_one_line(stage, actors):
    worker = stage.start("worker", processes=1, jobs="dramatiq_actors", middleware="dramatiq_witness:Nobody")
    assert worker.ends() == 2
    assert "CALLBOARD_MIDDLEWARE: 'dramatiq_witness:Nobody' cannot be loaded" in worker.log.read_text()
