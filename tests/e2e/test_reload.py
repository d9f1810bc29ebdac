"""`callboard run worker --reload`: jobs run with the code that was saved last."""

import signal
from pathlib import Path

import pytest

from callboard.jobs.model.states import JobState
from tests.e2e.stage import Process, Stage, until

_MODULE = """
from callboard import job


@job
def reloaded_answer() -> int:
    return {answer}
"""
#: A worker starts anew after each change. Seconds.
_PATIENCE = 60.0


def save(stage: Stage, answer: object) -> None:
    Path(stage.folder / "reloaded_jobs.py").write_text(_MODULE.format(answer=answer))


def answer_of(stage: Stage, worker: Process, reloads: int) -> object:
    """The result of a job after the worker has seen so many changes."""
    until(lambda: len(worker.events("worker.reloading")) >= reloads, _PATIENCE)
    until(lambda: worker.events("worker.ready")[reloads:], _PATIENCE)
    job_id = stage.enqueue("reloaded_answer")
    until(lambda: stage.job(job_id).state is JobState.SUCCEEDED, _PATIENCE)
    return stage.job(job_id).result


@pytest.mark.timeout(240)
@pytest.mark.long
def test_a_worker_reloads_saved_code_and_recovers_from_a_syntax_error(stage: Stage) -> None:
    save(stage, 1)
    worker = stage.start("worker", "--reload", "--processes=1", "--threads=3", jobs="reloaded_jobs")
    assert answer_of(stage, worker, 0) == 1
    assert [each.threads for each in stage.platform.workers.live()] == [3]
    save(stage, 2)
    assert answer_of(stage, worker, 1) == 2
    save(stage, "3 +")
    until(lambda: worker.events("worker.boot_failed"), _PATIENCE)
    assert worker.alive
    save(stage, 4)
    until(lambda: len(worker.events("worker.ready")) == 3, _PATIENCE)
    job_id = stage.enqueue("reloaded_answer")
    until(lambda: stage.job(job_id).result == 4, _PATIENCE)
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0


@pytest.mark.timeout(240)
@pytest.mark.long
def test_up_with_reload_restarts_its_workers_and_stops_them(stage: Stage) -> None:
    save(stage, 1)
    up = stage.start("up", "--reload", jobs="reloaded_jobs", port=0, processes=1)
    assert answer_of(stage, up, 0) == 1
    save(stage, 2)
    assert answer_of(stage, up, 1) == 2
    up.send(signal.SIGTERM)
    assert up.ends() == 0
    assert stage.platform.workers.live() == []
