"""Whatever a job does to logging: the worker's own lines, its stream and the stored lines stay."""

import shutil
from collections.abc import Iterator

import pytest

from callboard.jobs.model.states import JobState
from tests.e2e.log_setups import SETUPS
from tests.e2e.stage import HERE, Process, Stage, until


@pytest.fixture
def worker(stage: Stage) -> Iterator[Process]:
    shutil.copy(HERE / "log_setups.py", stage.folder)
    return stage.worker(jobs="log_setups", threads=2)


def run(stage: Stage, job: str, **kwargs: object) -> tuple[str, JobState]:
    job_id = stage.enqueue_with(job, kwargs)
    return str(job_id), stage.platform.waiting.wait(job_id, None).state


def check(stage: Stage, worker: Process, setup: str) -> None:
    """Lines of a job are stored and shown, with the job's fields; an event of our own is shown."""
    text = f"after {setup}"
    job_id, state = run(stage, "says", text=text)
    assert state is JobState.SUCCEEDED
    stored = [line.message for line in stage.platform.job_logs.newest(stage.job(job_id).id, limit=10)]
    assert stored == [text, f"{text} n=1"], setup
    until(lambda: len(worker.events(text)) == 2)
    for shown in worker.events(text):
        fields = {key: shown[key] for key in ("job_id", "job", "attempt", "queue")}
        assert fields == {"job_id": job_id, "job": "says", "attempt": 1, "queue": "default"}
    failed, _ = run(stage, "fails", secret="hunter2")
    until(lambda: any(event["job_id"] == failed for event in worker.events("job.failed")))


def test_no_set_up_of_logging_by_a_job_silences_the_worker(stage: Stage, worker: Process) -> None:
    for setup in SETUPS:
        assert run(stage, "sets_up", how=setup)[1] is JobState.SUCCEEDED
        check(stage, worker, setup)


@pytest.mark.parametrize("setup", ["dictConfig", "basicConfig", "structlog.configure"])
def test_a_set_up_at_the_import_of_the_jobs_silences_nobody(stage: Stage, setup: str) -> None:
    shutil.copy(HERE / "log_setups.py", stage.folder)
    worker = stage.worker(jobs="log_setups", threads=2, extra={"TEST_SETUP": setup})
    check(stage, worker, setup)
    assert worker.events("worker.ready")


def test_lines_of_a_jobs_threads_and_tasks_are_its_lines(stage: Stage, worker: Process) -> None:
    for text in ("first", "second"):
        job_id, _ = run(stage, "says_elsewhere", text=text)
        found = stage.platform.job_logs.newest(stage.job(job_id).id, limit=10)
        assert [line.message for line in found] == [f"{text} {where}" for where in ("thread", "pool", "task")]
        until(lambda text=text: worker.events(f"{text} task"))
        assert worker.events(f"{text} pool")[0]["job_id"] == job_id


def test_handlers_of_a_module_get_its_records(stage: Stage, worker: Process) -> None:
    job_id, _ = run(stage, "collects")
    assert stage.job(job_id).result == ["for the handler of the module"]
    assert worker.alive


def test_a_final_failure_is_an_error_with_class_message_and_traceback(stage: Stage, worker: Process) -> None:
    job_id, state = run(stage, "fails", secret="hunter2")
    assert state is JobState.FAILED
    [event] = until(lambda: worker.events("job.failed"))
    assert (event["level"], event["job_id"], event["error"]) == ("error", job_id, "ValueError")
    assert event["message"] == "cannot open postgres://***@db/shop"
    assert "log_setups.py" in str(event["exception"])
    assert "hunter2" not in worker.log.read_text()
