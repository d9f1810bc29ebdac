"""Jobs that wait for a version that no live worker runs: when they come back, and what is said about them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.definitions.arguments import describe
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate.health import HealthChecks
from tests.integration.core.factories import NOWHERE, claimed, execution, run_sql


def v1(name: str) -> None: ...


def v2(name: str, tone: int) -> None: ...


def kind(function, **more) -> JobType:
    return JobType("wait_all", "waiting", describe(function).schema, 5, 10, None, "", module="shop", **more)


OLD, NEW = kind(v1), kind(v2)


def boot(platform, version: JobType):
    """A worker that runs this version starts."""
    keys = tuple(one.key for one in platform.catalogue.publish([version]))
    card = WorkerCard(new_id(), "host", 1, (), ("wait_all",), 1, 1, keys)
    platform.workers.register(card)
    return card.id


def put_off_by_a_worker(platform, **arguments):
    """A job with these arguments was claimed and put off; returns the job."""
    with execution(platform) as worker:
        [job] = claimed(platform, worker, name="wait_all", unchecked=True, **arguments)
        delay = timedelta(seconds=300)
        worker.finish([Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=delay, put_off="host: no")])
    return platform.jobs.get(job.id)


def comes_back_soon(job) -> bool:
    assert (job.state, job.put_off) == (JobState.SCHEDULED, 1)
    return (job.run_at - job.enqueued_at).total_seconds() < 30


@pytest.mark.parametrize(
    ("arguments", "soon"),
    [
        ({"args": ["ada", 2]}, True),
        ({"args": ["ada"], "kwargs": {"tone": 2}}, True),
        ({"args": ["ada"]}, False),
        ({"args": ["ada", 2, 3]}, False),
        ({"args": ["ada", "high"]}, False),
        ({"kwargs": {"name": "ada", "tone": "high"}}, False),
        ({"kwargs": {"name": "ada", "tone": 2}}, True),
    ],
)
def test_a_job_comes_back_soon_only_if_a_live_version_accepts_its_arguments_by_position_too(
    platform, arguments, soon
):
    boot(platform, NEW)
    assert comes_back_soon(put_off_by_a_worker(platform, **arguments)) is soon


@pytest.mark.parametrize(
    "schema",
    [
        '{"properties": 5, "required": 7}',
        '{"x-parameters": 5}',
        "5",
        '{"required": [7]}',
        '{"required": ["ghost"]}',
    ],
)
def test_a_version_that_was_changed_by_hand_does_not_keep_the_end_of_an_attempt_from_being_written(
    platform, schema
):
    boot(platform, NEW)
    run_sql(platform, "UPDATE callboard.job_versions SET schema = CAST(:schema AS jsonb)", schema=schema)
    job = put_off_by_a_worker(platform, args=["ada"])
    assert job.put_off == 1
    assert [one.code for one in platform.why.explain(job.id).reasons]
    assert [
        one
        for one in HealthChecks(platform.database, NOWHERE, platform.migrations).checks()
        if one.name == "put off"
    ]


def told(platform) -> list[str]:
    checks = HealthChecks(platform.database, NOWHERE, platform.migrations).checks()
    return [one.message for one in checks if one.name == "no version"]


def test_doctor_names_jobs_that_wait_for_a_version_that_no_live_worker_runs(platform):
    boot(platform, NEW)
    platform.catalogue.publish([OLD], announced=True)
    put_off_by_a_worker(platform, args=["ada"])
    put_off_by_a_worker(platform, kwargs={"name": "ada"})
    put_off_by_a_worker(platform, kwargs={"name": "ada", "tone": 2})
    assert told(platform) == ["jobs wait for a version that no live worker runs: wait_all (2)"]
    boot(platform, OLD)
    assert told(platform) == []


def test_doctor_names_jobs_that_were_put_off_and_that_no_live_worker_defines_too(platform):
    put_off_by_a_worker(platform, args=["ada"])
    assert told(platform) == ["jobs wait for a version that no live worker runs: wait_all (1)"]
    boot(platform, replace(OLD, queue="elsewhere"))
    assert told(platform) == []
