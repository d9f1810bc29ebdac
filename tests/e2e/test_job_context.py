"""Which job am I? The own one wherever the job's code runs, a clear error after its end, never another's."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from callboard.jobs.dramatiq.definition import define
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from callboard.jobs.platform import Platform
from tests.e2e import context_jobs
from tests.e2e.stage import HERE, Stage, staged, until

ENDED = {
    "current_job": "JOB_ENDED", "progress": "JOB_ENDED", "check": "JOB_ENDED", "enqueue": "JOB_ENDED",
    "source": "python", "send": "python",
}  # fmt: skip
IN_A_COPY = {name: said.replace("JOB_ENDED", "NOT_IN_A_JOB") for name, said in ENDED.items()}


@pytest.fixture(scope="module")
def stage(migrated: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    """One worker for all tests here."""
    with migrated.database.transaction() as connection:
        connection.execute(text("TRUNCATE callboard.jobs, callboard.workers, callboard.job_types CASCADE"))
    migrated.catalogue.forget()
    with staged(migrated, database_url, redis_url) as made:
        shutil.copy(HERE / "context_jobs.py", made.folder)
        actors = (value for value in vars(context_jobs).values() if hasattr(value, "actor_name"))
        migrated.catalogue.publish([define(actor).type for actor in actors])
        made.start("scheduler")
        made.worker(jobs="context_jobs", async_slots=100)
        yield made


def ended(stage: Stage, job: UUID) -> Job:
    done = stage.platform.waiting.wait(job, None)
    assert done.state is JobState.SUCCEEDED, done.errors
    return done


def answers(result: Any) -> set[str]:
    """Every answer in a job's result, which has lists."""
    if isinstance(result, str):
        return {result}
    return set().union(*map(answers, result.values() if isinstance(result, dict) else result))


@pytest.mark.parametrize(("name", "count"), [("asks_async", 200), ("asks_sync", 40)])
def test_jobs_that_run_at_once_are_themselves_everywhere(stage: Stage, name: str, count: int) -> None:
    for job in [stage.enqueue(name) for _ in range(count)]:
        result = ended(stage, job).result
        assert isinstance(result, dict)
        assert result.pop("leaked") == []
        # Its threads serve all jobs, so it says nothing of its own accord.
        assert result.pop("thread pool", "NOT_IN_A_JOB") == "NOT_IN_A_JOB"
        assert {key: value for key, value in result.items() if answers(value) != {str(job)}} == {}


@pytest.mark.parametrize("name", ["leaves_a_thread", "leaves_work_in_a_pool", "leaves_a_task"])
def test_what_a_job_leaves_behind_gets_a_clear_error(stage: Stage, name: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    job = stage.enqueue(name, path=str(said))
    assert ended(stage, job).progress is None
    until(said.exists)
    assert json.loads(said.read_text()) == ENDED
    assert stage.job(job).progress is None


def test_a_copy_that_a_job_forks_is_not_the_job_and_enqueues_by_itself(stage: Stage, tmp_path: Path) -> None:
    said = tmp_path / "said"
    job = stage.enqueue("forks_and_asks", path=str(said))
    assert ended(stage, job).progress == 0.5
    assert json.loads(said.read_text()) == IN_A_COPY


def test_a_copy_that_an_async_job_forks_runs_no_step_of_another_job(stage: Stage, tmp_path: Path) -> None:
    ways = {"return": 0, "raise": 7, "await": 1}
    noted = tmp_path / "noted"
    others = [stage.enqueue("ticks", path=str(noted)) for _ in range(30)]
    copies = {stage.enqueue("forks_on_the_loop", way=way): code for way, code in [*ways.items()] * 2}
    for job, code in copies.items():
        assert ended(stage, job).result == code
    for job in others:
        ended(stage, job)
    processes = noted.read_text().split()
    assert (len(processes), len(set(processes))) == (300, 1)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_processes_of_a_pool_are_not_the_job_and_enqueue_by_themselves(
    stage: Stage, method: str, kind: str
) -> None:
    job = stage.enqueue("uses_processes", method=method, kind=kind)
    assert ended(stage, job).result == {"current_job": "NOT_IN_A_JOB", "source": "python", "send": "python"}


def test_a_decorator_that_fills_in_an_argument_gets_the_others(stage: Stage) -> None:
    assert ended(stage, stage.enqueue("injected", n=7)).result == ["a connection", 7]
    assert ended(stage, stage.enqueue_with("injected", {}, args=[8])).result == ["a connection", 8]


def test_a_job_that_returns_a_generator_has_failed(stage: Stage) -> None:
    done = stage.platform.waiting.wait(stage.enqueue("returns_a_generator", n=7), None)
    assert done.state is JobState.FAILED
    assert "its code has not run" in done.errors[0]["message"]
