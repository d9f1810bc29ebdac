"""Exceptions, policies and results that fail themselves harm their own job alone."""

import shutil
import sys
from datetime import timedelta
from importlib import import_module

import dramatiq
import pytest

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.model.basics.ids import id_of
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from callboard.jobs.operate.job_filter import JobFilter
from tests.e2e.stage import HERE, PATIENCE, Stage, until


@pytest.fixture
def hostile(stage: Stage, monkeypatch):
    """The module as a producer imports it, with a worker and a scheduler."""
    shutil.copy(HERE / "hostile_code.py", stage.folder)
    monkeypatch.syspath_prepend(str(stage.folder))
    broker = CallboardBroker(lambda: stage.platform)
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    module = import_module("hostile_code")
    stage.platform.catalogue.publish([define(actor).type for actor in broker.actors.values()])
    stage.start("scheduler")
    stage.worker(jobs="hostile_code", threads=4)
    yield module
    for name in ("hostile_code", "stage_jobs"):
        sys.modules.pop(name, None)


def ended(stage: Stage, job_id) -> Job:
    return stage.platform.waiting.wait(job_id, timedelta(seconds=PATIENCE))


def finished(stage: Stage, name: str, count: int) -> list[Job]:
    """The jobs of this name, when so many have ended."""
    jobs = [job for job in stage.platform.jobs.page(JobFilter(name=name), limit=200).items if job.finished]
    return jobs if len(jobs) == count else []


def test_an_attempt_ends_whatever_its_exception_does_and_its_neighbours_are_unharmed(
    stage: Stage, hostile
) -> None:
    odd = {
        (name, which): stage.enqueue(name, which=which)
        for which in hostile.ERRORS
        for name in ("raises", "raises_async")
    }
    good = stage.enqueue_many("good", 60)
    assert {ended(stage, job_id).state for job_id in good} == {JobState.SUCCEEDED}
    for (name, which), job_id in odd.items():
        job = ended(stage, job_id)
        assert (job.state, job.attempt, len(job.errors)) == (JobState.FAILED, 2, 2), (name, which, job.errors)
        assert all(len(error["class"]) <= 200 for error in job.errors)
        assert all(error["message"] and name in error["traceback"] for error in job.errors), (
            which,
            job.errors,
        )
        assert stage.starts()[str(job_id)] == 2
    for which in hostile.ERRORS:
        hostile.raises_plain.send(which)
    callbacks = until(lambda: finished(stage, "told", len(hostile.ERRORS)))
    assert {job.result[0][0] for job in callbacks} == set(hostile.ERRORS)
    assert "Hostile" in {job.result[1] for job in callbacks}
    message = ended(stage, odd["raises", "str sleeps"]).errors[0]["message"]
    assert "it took longer than 1 s" in message


def test_a_result_that_cannot_be_stored_does_not_repeat_the_work(stage: Stage, hostile) -> None:
    refused = [stage.enqueue("returns", which=which) for which in ("set", "NUL", "NaN", "exits")]
    refused.append(stage.enqueue("returns_async"))
    policy = stage.enqueue("policy_exits")
    reason = stage.enqueue("fails_for_a_reason")
    kept = [hostile.returns_plain.send(which) for which in ("set", "keys")]
    line = hostile.returns_plain.message("set") | hostile.takes.message()
    line.run()
    for job_id in refused:
        job = ended(stage, job_id)
        assert (job.state, job.attempt, job.result) == (JobState.FAILED, 1, None)
        assert [error["class"] for error in job.errors] == ["ResultRefused"]
        assert "the job's work was done" in job.errors[0]["message"]
        assert stage.starts()[str(job_id)] == 1
    with pytest.raises(dramatiq.results.ResultFailure, match="of the type set"):
        kept[0].get_result(block=True, timeout=int(PATIENCE * 1000))
    assert kept[1].get_result(block=True, timeout=int(PATIENCE * 1000)) == {"1": 2}
    first, second = (id_of(message.message_id, message.message_timestamp) for message in line.messages)
    piped = ended(stage, first)
    assert (piped.state, piped.attempt) == (JobState.FAILED, 1)
    assert [error["class"] for error in piped.errors] == ["ResultRefused"]
    assert stage.starts()[str(second)] == 0
    failed = ended(stage, reason)
    assert [error["message"] for error in failed.errors] == ["(its text cannot be read: SystemExit)"]
    waits = stage.job(policy)
    assert waits.state is JobState.RETRYING
    assert waits.errors[0]["message"].startswith(
        "words\n[Callboard: retry of the retry policy failed: SystemExit"
    )
