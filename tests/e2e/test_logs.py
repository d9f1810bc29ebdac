"""What jobs log, report and return is there when they have ended."""

import shutil
import signal
from pathlib import Path
from uuid import UUID

import pytest

from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from tests.e2e.stage import HERE, PATIENCE, Process, Stage, own_servers, own_stage, strike, until


@pytest.fixture
def worker(stage: Stage) -> Process:
    shutil.copy(HERE / "log_jobs.py", stage.folder)
    return stage.worker(jobs="log_jobs", result_limit="2KiB", log_level="error")


def ended(stage: Stage, name: str, **kwargs: object) -> tuple[Job, list[JobLogLine]]:
    """The job, and its lines as they are the moment it has ended."""
    job_id = stage.enqueue(name, **kwargs)
    job = stage.platform.waiting.wait(job_id, None)
    return job, lines(stage, job_id)


def lines(stage: Stage, job_id: UUID) -> list[JobLogLine]:
    return stage.platform.job_logs.newest(job_id, limit=10_000)


def test_whatever_a_job_logs_is_kept_with_its_attempt(stage: Stage, worker: Process) -> None:
    stage.start("scheduler")
    job, told = ended(stage, "tells", part=3)
    assert job.state is JobState.SUCCEEDED
    second = [line for line in told if line.attempt == 2]
    assert [(line.line, line.level, line.logger, line.message) for line in second] == [
        (1, "info", "shop.reports", "part 3 of attempt 2 rows=12"),
        (2, "warning", "shop.events", "part.late seconds=3 token=***"),
        (3, "info", "tells", "rendered pages=7"),
        (4, "info", "shop.reports", "connecting to postgres://***@db/shop with password=*** \ufffd ?"),
    ]
    first = [line for line in told if line.attempt == 1]
    assert len(first) == 5
    assert first[4].level == "error"
    assert first[4].message.startswith("cannot write\nTraceback (most recent call last):\n")
    assert first[4].message.endswith("OSError: the disk is full")
    # what the worker itself shows is what it was told to show
    assert worker.events("part.late") == []
    assert worker.events("cannot write") != []
    assert (job.progress, job.progress_note) == (0.5, "half ? told")


def test_async_jobs_that_run_at_once_keep_their_lines_apart(stage: Stage, worker: Process) -> None:
    assert worker.alive
    jobs = stage.enqueue_many("tells_async", 50)
    for number, job_id in enumerate(jobs):
        assert stage.platform.waiting.wait(job_id, None).state is JobState.SUCCEEDED
        assert [line.message for line in lines(stage, job_id)] == [
            f"job {number} begins", f"job {number} in a thread", f"job {number} ends",
        ]  # fmt: skip


def test_of_a_flood_the_newest_lines_are_kept_and_the_rest_is_counted(stage: Stage, worker: Process) -> None:
    assert worker.alive
    job, kept = ended(stage, "floods", lines=20_000)
    assert job.state is JobState.SUCCEEDED
    assert [line.message for line in kept[-1000:]] == [f"line {n}" for n in range(19_001, 20_001)]
    assert (kept[-1001].line, kept[-1001].message) == (19_000, "… 19,000 lines were dropped")
    assert len(kept) == 1001


def test_a_running_job_can_be_followed(stage: Stage, worker: Process, tmp_path: Path) -> None:
    job_id = stage.enqueue("tells_slowly", path=str(tmp_path / "go"))
    until(lambda: [line.message for line in lines(stage, job_id)] == ["waiting"])
    until(lambda: stage.job(job_id).progress_note == "waiting")
    (tmp_path / "go").touch()
    job = stage.platform.waiting.wait(job_id, None)
    assert [line.message for line in lines(stage, job_id)] == ["waiting", "it is there"]
    assert (job.state, job.progress_note) == (JobState.SUCCEEDED, "nearly there")
    assert job.progress == pytest.approx(0.9)
    assert worker.alive


def test_what_was_logged_outlives_the_process_that_is_killed(
    stage: Stage, worker: Process, tmp_path: Path
) -> None:
    job_id = stage.enqueue("tells_slowly", path=str(tmp_path / "never"))
    until(lambda: lines(stage, job_id))
    worker.kill_all()
    assert [line.message for line in lines(stage, job_id)] == ["waiting"]


def test_the_last_lines_of_what_a_stopping_worker_interrupts_are_kept(stage: Stage, tmp_path: Path) -> None:
    shutil.copy(HERE / "log_jobs.py", stage.folder)
    worker = stage.worker(jobs="log_jobs", grace="0s")
    job_id = stage.enqueue("tells_slowly", path=str(tmp_path / "never"))
    until(lambda: lines(stage, job_id))
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert stage.job(job_id).state is JobState.QUEUED
    assert [line.message for line in lines(stage, job_id)] == ["waiting", "interrupted"]


def test_progress_may_be_reported_in_a_tight_loop(stage: Stage, worker: Process) -> None:
    assert worker.alive
    job, _ = ended(stage, "reports", times=300_000)
    assert job.state is JobState.SUCCEEDED
    assert (job.progress, job.progress_note) == (1.0, None)
    # a write for each call would take minutes
    assert job.result < PATIENCE


def test_a_result_beyond_the_limit_fails_the_attempt_and_says_how_to_mend_it(
    stage: Stage, worker: Process
) -> None:
    assert worker.alive
    fits, _ = ended(stage, "returns", size=2046)
    assert (fits.state, len(fits.result)) == (JobState.SUCCEEDED, 2046)
    beyond, _ = ended(stage, "returns", size=2047)
    assert (beyond.state, beyond.result) == (JobState.FAILED, None)
    assert beyond.errors[0]["message"] == (
        "the job's work was done, but its result was refused: "
        "the result is 2,049 bytes of JSON, at most 2,048 are kept (CALLBOARD_RESULT_LIMIT);"
        " return where it can be found instead, or raise the limit on the workers."
        " The job is not tried again, because that would repeat its work."
        " Let the function return what JSON can hold, or nothing"
    )


def test_while_postgres_is_away_lines_and_progress_wait_and_are_complete_in_the_end(
    redis_url: str, tmp_path: Path
) -> None:
    with own_servers() as servers:
        servers.postgres.ensure()
        with own_stage(servers, servers.urls.database_url, redis_url) as stage:
            shutil.copy(HERE / "log_jobs.py", stage.folder)
            worker = stage.worker(jobs="log_jobs")
            job_id = stage.enqueue("tells_slowly", path=str(tmp_path / "go"))
            until(lambda: lines(stage, job_id))
            # a clean stop: nothing that was committed is lost with it
            strike(servers.postgres, signal.SIGINT)
            (tmp_path / "go").touch()
            until(lambda: worker.events("consumer.waiting"))
            servers.postgres.ensure()
            stage.platform.database.close()
            job = stage.platform.waiting.wait(job_id, None)
            assert (job.state, job.attempt, job.progress_note) == (JobState.SUCCEEDED, 1, "nearly there")
            assert [line.message for line in lines(stage, job_id)] == ["waiting", "it is there"]
