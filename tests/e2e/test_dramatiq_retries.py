"""Retries are in the database: those that are due go on where others have stopped."""

import shutil
import signal
import sys
from importlib import import_module
from pathlib import Path

import dramatiq
import pytest

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.model.states import JobState
from tests.e2e.stage import Stage, until

MODULES = ("dramatiq_witness", "dramatiq_actors")


@pytest.fixture
def actors(stage: Stage, monkeypatch):
    for name in MODULES:
        shutil.copy(Path(__file__).with_name(f"{name}.py"), stage.folder)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(stage.folder))
    broker = CallboardBroker(lambda: stage.platform, middleware=[])
    broker.actor_options |= {"witnessed"}
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    yield import_module("dramatiq_actors")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.long
def test_retries_go_on_across_restarts_of_worker_and_scheduler(stage, actors):
    settings = {"jobs": "dramatiq_actors", "middleware": "dramatiq_witness:Witness"}
    scheduler, worker = stage.start("scheduler"), stage.worker(**settings)
    message = actors.stubborn_failure.send_with_options(max_retries=3, min_backoff=1_500, max_backoff=2_500)

    def failed_on(workers: int) -> bool:
        return len({error["worker"] for error in stage.job(message.message_id).errors}) >= workers

    until(lambda: failed_on(1))
    worker.send(signal.SIGTERM)
    scheduler.kill()
    assert worker.ends() == 0
    assert stage.job(message.message_id).state in {JobState.RETRYING, JobState.QUEUED}

    stage.start("scheduler")
    second = stage.worker(**settings)
    until(lambda: failed_on(2))
    second.kill_all()
    third = stage.worker(**settings)
    until(lambda: stage.job(message.message_id).finished)

    job = stage.job(message.message_id)
    assert (job.state, job.attempt, job.max_attempts) == (JobState.FAILED, 4, 4)
    assert [error["attempt"] for error in job.errors] == [1, 2, 3, 4]
    assert {(error["class"], error["message"]) for error in job.errors} == {("ValueError", "still no")}
    assert all("stubborn_failure" in error["traceback"] for error in job.errors)
    workers = [error["worker"] for error in job.errors]
    assert len(set(workers)) == 3
    times = [error["at"] for error in job.errors]
    assert times == sorted(times)
    assert third.alive
