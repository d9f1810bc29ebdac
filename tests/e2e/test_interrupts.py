"""Running jobs that are to stop: cancelled by an operator, or over their time limit; and one that returns too
much.
"""

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import text

from callboard.jobs.model.job import Job
from callboard.jobs.platform import Platform
from tests.e2e.stage import Stage, staged, until


@pytest.fixture(scope="module")
def stage(migrated: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    """One worker for all tests here."""
    with migrated.database.transaction() as connection:
        connection.execute(text("TRUNCATE callboard.jobs, callboard.workers, callboard.job_types CASCADE"))
    migrated.catalogue.forget()
    with staged(migrated, database_url, redis_url) as made:
        made.start("scheduler")
        made.worker()
        yield made


def ended(stage: Stage, job: UUID) -> Job:
    return until(lambda: found if (found := stage.job(job)).finished else None)


@pytest.mark.parametrize("name", ["dozes", "naps"])
def test_a_running_job_that_is_cancelled_ends_as_cancelled(stage: Stage, name: str) -> None:
    job = stage.enqueue(name, seconds=60)
    until(lambda: str(job) in stage.starts())
    stage.platform.control.cancel(job)
    done = ended(stage, job)
    assert (done.state, done.result) == ("cancelled", None)
    assert done.finished_at is not None
    assert done.cancel_requested_at is not None
    took = (done.finished_at - done.cancel_requested_at).total_seconds()
    print(f"{name} was cancelled in {took:.2f} s")
    assert took < 10


@pytest.mark.parametrize("name", ["dozes", "naps"])
def test_a_time_limit_interrupts_a_job_that_sleeps(stage: Stage, name: str) -> None:
    done = ended(stage, stage.enqueue_with(name, {"seconds": 60}, timeout="1s"))
    assert done.state == "failed"
    assert done.errors[0]["class"] == "TimedOut"
    assert "longer than its timeout of 1 s" in done.errors[0]["message"]


def test_a_result_that_is_too_large_fails_the_job_and_says_why(stage: Stage) -> None:
    done = ended(stage, stage.enqueue("too_much", size=300_000))
    assert (done.state, done.result) == ("failed", None)
    assert done.errors[0]["message"] == (
        "the job's work was done, but its result was refused: "
        "the result is 300,002 bytes of JSON, at most 262,144 are kept (CALLBOARD_RESULT_LIMIT);"
        " return where it can be found instead, or raise the limit on the workers."
        " The job is not tried again, because that would repeat its work."
        " Let the function return what JSON can hold, or nothing"
    )


def test_jobs_that_are_interrupted_leave_the_worker_fit_for_more(stage: Stage) -> None:
    jobs = [stage.enqueue_with("dozes", {"seconds": 60}, timeout="100ms") for _ in range(40)]
    jobs += [stage.enqueue_with("naps", {"seconds": 60}, timeout="100ms") for _ in range(40)]
    assert {ended(stage, job).state for job in jobs} == {"failed"}
    assert ended(stage, stage.enqueue("ledger", n=7)).result == 7
