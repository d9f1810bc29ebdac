"""A worker runs a program that makes a broker of its own, and nothing connects to that broker's server."""

import shutil
from pathlib import Path

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.results import ResultFailure

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.model.states import JobState
from tests.e2e.stage import PATIENCE, Stage, until

IN_TIME = {"block": True, "timeout": int(PATIENCE * 1000)}


@pytest.fixture
def broker(stage: Stage, monkeypatch):
    made = CallboardBroker(lambda: stage.platform, middleware=[])
    monkeypatch.setattr(dramatiq.broker, "global_broker", made)
    return made


@pytest.fixture
def worker(stage: Stage):
    shutil.copy(Path(__file__).with_name("own_broker.py"), stage.folder)
    stage.start("scheduler")
    return stage.worker(jobs="own_broker", threads=4)


def send(broker: CallboardBroker, name: str, *args, **options):
    return broker.enqueue(
        Message(queue_name="default", actor_name=name, args=args, kwargs={}, options=options)
    )


def notes(stage: Stage) -> list[str]:
    return (stage.folder / "notes").read_text().splitlines()


def test_actors_middleware_and_defaults_of_a_foreign_broker_are_those_of_the_worker(stage, broker, worker):
    failing, slow = send(broker, "own_fails"), send(broker, "own_slow", max_retries=0)
    results = {
        name: send(broker, f"own_{name}", *args)
        for name, args in {
            "add": (1, 2), "keys": ({1: "a", None: [{True: 2}]},), "async": (3,), "calls_async": (),
            "loud": ("hello",), "async_loud": ("hi",), "sender": (), "late_broker": (4,),
        }.items()
    }  # fmt: skip
    found = {name: message.get_result(**IN_TIME) for name, message in results.items()}
    sent_inside = found["sender"].pop()
    assert found == {
        "add": 3, "keys": {"1": "a", "null": [{"true": 2}]}, "async": [3, "own_async"],
        "calls_async": [1, 8], "loud": "hello!", "async_loud": "hi!", "sender": [15, 7, [4, 6], 3],
        "late_broker": 8,
    }  # fmt: skip
    assert stage.job(sent_inside).source == "job"
    assert {line.split()[0] for line in notes(stage) if sent_inside in line} == {
        "before_enqueue", "after_enqueue",
    }  # fmt: skip

    until(lambda: stage.job(failing.message_id).finished)
    assert len(stage.job(failing.message_id).errors) == 2
    assert [line for line in notes(stage) if line.startswith("tries")] == ["tries 2", "tries 4"]
    sent_again = next(line for line in notes(stage) if line.startswith("sent again"))
    assert sent_again.split()[2:-1] == ["eta", "requeue_timestamp", "retries", "traceback", "tries"]
    assert 10 <= int(sent_again.split()[-1]) <= 20
    assert "nack own_fails 2" in notes(stage)
    until(lambda: stage.job(slow.message_id).finished)
    assert stage.job(slow.message_id).state is JobState.FAILED
    assert stage.job(slow.message_id).errors[0]["class"] == "TimedOut"
    with pytest.raises(ResultFailure) as raised:
        slow.get_result()
    assert raised.value.orig_exc_type == "TimeLimitExceeded"
    assert "loop boots" in notes(stage)

    assert [event["what"] for event in worker.events("worker.not_honoured")] == [
        "StubbornRetries.after_process_message", "Counting.before_delay_message",
        "the name of the actor own name with spaces", "result_ttl of own_add",
    ]  # fmt: skip


def test_a_module_without_jobs_stops_the_worker_with_the_reason(stage):
    (stage.folder / "no_jobs.py").write_text("import dramatiq\n")
    worker = stage.start("worker", processes=1, jobs="no_jobs")
    assert worker.ends() == 2
    assert "CALLBOARD_JOBS: no_jobs can be imported, but no job is defined there" in worker.log.read_text()
