"""A process that a job has changed for good is replaced: it says why, and nobody pays for it."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from callboard.jobs.dramatiq.definition import define
from tests.e2e import replaced_jobs
from tests.e2e.stage import HERE, Process, Stage, until


@pytest.fixture
def prepared(stage: Stage) -> Stage:
    shutil.copy(HERE / "replaced_jobs.py", stage.folder)
    actors = (value for value in vars(replaced_jobs).values() if hasattr(value, "actor_name"))
    stage.platform.catalogue.publish([define(actor).type for actor in actors])
    stage.start("scheduler")
    return stage


def reasons(worker: Process) -> list[tuple[object, str]]:
    return [(event["code"], str(event["reason"])) for event in worker.events("worker.exited")]


def clean_end(stage: Stage, job: object, seconds: float = 60) -> object:
    done = stage.platform.waiting.wait(job, timedelta(seconds=seconds))
    assert (done.state, done.crash_count) == ("succeeded", 0), done.errors
    return done


def test_a_damaged_process_finishes_its_jobs_while_another_takes_its_place(
    prepared: Stage, tmp_path: Path
) -> None:
    worker = prepared.worker(jobs="replaced_jobs", threads=2)
    for number, (what, cause) in enumerate(
        {"threads": "with gevent", "clock": "a job replaced functions"}.items()
    ):
        go_on = tmp_path / what
        beside = prepared.enqueue("works_beside", path=str(go_on))
        until(lambda job=beside: prepared.job(job).state == "running")
        clean_end(prepared, prepared.enqueue("damages", what=what))
        if what == "clock":
            # It is looked for when no job runs, because a running job may mean it.
            go_on.touch()
        until(lambda count=number: len(worker.events("worker.draining")) > count)
        other = clean_end(prepared, prepared.enqueue("tells_process"))
        go_on.touch()
        done = clean_end(prepared, beside)
        assert (done.attempt, done.result != other.result) == (1, True)
        until(lambda count=number: len(reasons(worker)) > count)
        code, reason = reasons(worker)[number]
        assert (code, cause in reason) == (70, True), reason
    assert worker.events("worker.boot_failed") == worker.events("process.stop_overdue") == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("descriptors", "file descriptors"),
        ("files", "files open, which is the limit"),
        ("sleep", "functions of `time`"),
        ("dates", ""),
        ("limits", "its state cannot be checked: TypeError"),
        ("leave", "with gevent"),
        ("exit", "functions of `time`"),
    ],
)
def test_whatever_the_damage_the_worker_says_why_and_works_on(prepared: Stage, what: str, cause: str) -> None:
    worker = prepared.worker(jobs="replaced_jobs", threads=2, grace="1s")
    damage = prepared.enqueue("damages", what=what)
    waiting = prepared.enqueue("tells_process_async")
    until(lambda: reasons(worker))
    for job in [waiting, *(prepared.enqueue("tells_process") for _ in range(20))]:
        clean_end(prepared, job)
    assert prepared.job(damage).state == "succeeded", prepared.job(damage).errors
    ((code, reason),) = reasons(worker)
    assert (code, cause in reason) == (70, True), reason
    assert worker.events("worker.boot_failed") == []


def test_a_job_that_does_not_end_in_the_grace_period_is_not_blamed(prepared: Stage, tmp_path: Path) -> None:
    worker = prepared.worker(jobs="replaced_jobs", threads=2, grace="1s")
    blocked = prepared.enqueue("blocks_once", path=str(tmp_path / "blocked"))
    until((tmp_path / "blocked").exists)
    clean_end(prepared, prepared.enqueue("damages", what="threads"))
    clean_end(prepared, blocked)
    until(lambda: reasons(worker))
    assert [code for code, _ in reasons(worker)] == [70]
