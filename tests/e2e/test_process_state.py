"""Whatever a job does to its process, the worker goes on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from callboard.jobs.dramatiq.definition import define
from callboard.jobs.platform import Platform
from tests.e2e import process_jobs
from tests.e2e.stage import Process, Stage, staged, until


@pytest.fixture(scope="module")
def running(migrated: Platform, database_url: str, redis_url: str) -> Iterator[tuple[Stage, Process]]:
    """One worker for all tests here, with one thread."""
    with migrated.database.transaction() as connection:
        connection.execute(text("TRUNCATE callboard.jobs, callboard.workers, callboard.job_types CASCADE"))
    migrated.catalogue.forget()
    with staged(migrated, database_url, redis_url) as made:
        shutil.copy(Path(process_jobs.__file__), made.folder)
        actors = (value for value in vars(process_jobs).values() if hasattr(value, "actor_name"))
        migrated.catalogue.publish([define(actor).type for actor in actors])
        made.start("scheduler")
        yield made, made.worker(jobs="process_jobs", threads=1)


def ended(stage: Stage, *jobs: object) -> list[object]:
    return [until(lambda job=job: found if (found := stage.job(job)).finished else None) for job in jobs]


@pytest.mark.parametrize("what", process_jobs.HOSTILE)
def test_after_a_hostile_job_others_run_and_end_as_what_they_are(running, what):
    stage, worker = running
    hostile = stage.enqueue("hostile_process", what=what)
    until(lambda: stage.job(hostile).finished)
    jobs = [
        stage.enqueue("tells", n=1),
        stage.enqueue("errs"),
        stage.enqueue("lingers"),
        stage.enqueue("tells", n=2),
    ]
    good, bad, slow, last = ended(stage, *jobs)
    found = stage.job(hostile)
    assert (found.state, found.crash_count) == ("succeeded", 0)
    assert [job.state for job in (good, bad, slow, last)] == ["succeeded", "failed", "failed", "succeeded"]
    assert [bad.errors[0]["class"], slow.errors[0]["class"]] == ["ValueError", "TimedOut"]
    assert [job.crash_count for job in (good, bad, slow, last)] == [0, 0, 0, 0]
    assert "line 2" in until(lambda: [line["message"] for line in logs(stage, last.id)])
    assert not worker.events("worker.replacing")
    assert worker.alive


def logs(stage: Stage, job: object) -> list[dict[str, object]]:
    with stage.platform.database.autocommit() as connection:
        rows = connection.execute(
            text("SELECT message FROM callboard.job_logs WHERE job_id = :id"), {"id": job}
        )
        return [{"message": row[0]} for row in rows]


def test_a_program_that_a_job_starts_ignores_and_blocks_no_stop_signal(running):
    stage, _ = running
    (done,) = ended(stage, stage.enqueue("program"))
    assert done.state == "succeeded", done.errors
    for line in done.result:
        mask = int(line.split()[1], 16)
        # SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM
        assert not mask & sum(1 << (number - 1) for number in (1, 2, 3, 13, 14, 15)), line
