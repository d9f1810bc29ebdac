"""A running job that is cancelled stops, in its own time or by force; what runs beside it is not harmed for
it.
"""

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import text

from callboard.jobs.model.job import Job
from callboard.jobs.platform import Platform
from tests.e2e.stage import Process, Stage, staged, until

PATIENCE = 60.0


@pytest.fixture(scope="module")
def stage(migrated: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    """One worker for all tests here."""
    with migrated.database.transaction() as connection:
        connection.execute(text("TRUNCATE callboard.jobs, callboard.workers, callboard.job_types CASCADE"))
    migrated.catalogue.forget()
    with staged(migrated, database_url, redis_url) as made:
        made.start("scheduler")
        yield made


@pytest.fixture(scope="module")
def worker(stage: Stage) -> Process:
    return stage.worker(threads=6, slots=8)


def running(stage: Stage, name: str, **kwargs: object) -> UUID:
    job = stage.enqueue(name, **kwargs)
    until(lambda: str(job) in stage.starts())
    return job


def ended(stage: Stage, job: UUID) -> Job:
    return until(lambda: found if (found := stage.job(job)).finished else None, PATIENCE)


def took(job: Job) -> float:
    assert job.finished_at is not None
    assert job.cancel_requested_at is not None
    return (job.finished_at - job.cancel_requested_at).total_seconds()


@pytest.mark.parametrize("name", ["dozes", "naps", "swallows_one"])
@pytest.mark.parametrize("how", [{}, {"force": True}], ids=["asked", "forced"])
def test_a_job_that_heeds_it_is_cancelled_and_its_process_lives(
    stage: Stage, worker: Process, name: str, how: dict[str, bool]
) -> None:
    before = len(worker.events("worker.exited"))
    job = running(stage, name, seconds=60)
    stage.platform.control.cancel(job, **how)
    done = ended(stage, job)
    print(f"{name} was cancelled in {took(done):.2f} s")
    assert (done.state, done.result) == ("cancelled", None)
    assert done.errors[0]["message"] == "cancelled while running"
    assert len(worker.events("worker.exited")) == before


def test_a_job_that_cleans_up_is_not_interrupted_in_that(stage: Stage, worker: Process) -> None:
    tidy = stage.folder / "tidy"
    job = running(stage, "tidies_up", path=str(tidy))
    stage.platform.control.cancel(job)
    assert ended(stage, job).state == "cancelled"
    assert tidy.exists()


@pytest.mark.parametrize("name", ["stubborn", "blocks_the_loop", "keeps_the_interpreter"])
def test_a_job_that_does_not_heed_it_is_killed_by_force_and_what_runs_beside_it_runs_again(
    stage: Stage, worker: Process, name: str
) -> None:
    gate = stage.folder / f"gate-{name}"
    sibling = running(stage, "until_there", path=str(gate))
    job = running(stage, name, seconds=60)
    stage.platform.control.cancel(job, force=True)
    done = ended(stage, job)
    print(f"{name} was cancelled by force in {took(done):.2f} s")
    assert (done.state, done.crash_count) == ("cancelled", 0)
    assert [(error["class"], error["message"]) for error in done.errors] == [
        ("Cancelled", "cancelled by force: it did not stop, and its process was killed")
    ]
    assert str(job) in {event["job_id"] for event in worker.events("job.cancel_forced")}
    gate.touch()
    beside = ended(stage, sibling)
    assert (beside.state, beside.crash_count, beside.attempt, beside.solo) == ("succeeded", 0, 1, False)
    assert worker.alive
