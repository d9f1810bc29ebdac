"""A job beyond its hard timeout has its process killed: that one is blamed, and what ran beside it is not."""

from uuid import UUID

import pytest

from callboard.jobs.model.job import Job
from tests.e2e.stage import Process, Stage, until

PATIENCE = 60.0
LIMITED = {"hard_timeout": "1500ms", "max_attempts": 1}


def ended(stage: Stage, job: UUID) -> Job:
    return until(lambda: found if (found := stage.job(job)).finished else None, PATIENCE)


def check_blamed(worker: Process, job: Job, times: int) -> None:
    """The job was killed so often for being late, and says so."""
    assert [error["class"] for error in job.errors] == ["TimedOut"] * times
    assert [error["attempt"] for error in job.errors] == list(range(1, times + 1))
    assert "hard timeout of 1.5 s" in job.errors[0]["message"]
    assert (job.crash_count, job.solo, job.attempt) == (0, False, times)
    told = worker.events("job.hard_timeout")
    assert [(event["job_id"], event["limit"]) for event in told] == [(str(job.id), 1.5)] * times


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["keeps_the_interpreter", "stubborn", "blocks_the_loop"])
def test_a_job_that_nothing_else_stops_is_killed_and_those_beside_it_are_not_blamed(
    stage: Stage, name: str
) -> None:
    gate = stage.folder / "gate"
    siblings = [stage.enqueue("until_there", path=str(gate)) for _ in range(3)]
    siblings += [stage.enqueue("naps", seconds=0.5) for _ in range(2 * (name != "blocks_the_loop"))]
    stage.start("scheduler")
    worker = stage.worker(threads=6, slots=8, metrics_port=0)
    stage.wait_started(len(siblings))
    late = ended(stage, stage.enqueue_with(name, {"seconds": 60}, **LIMITED))
    assert late.state == "failed"
    check_blamed(worker, late, 1)
    labels = f'{{job_name="{name}",queue="{late.queue}"}}'
    # counted once it is committed
    until(lambda: worker.metric(f"callboard_hard_timeouts_total{labels}") == 1)
    gate.touch()
    states = {
        (job.state, job.crash_count, job.attempt, job.solo) for job in (ended(stage, one) for one in siblings)
    }
    assert states == {("succeeded", 0, 1, False)}
    assert [event["code"] for event in worker.events("worker.exited")] == [-9]
    assert worker.events("job.suspected") == worker.events("job.crashed") == []


@pytest.mark.long
@pytest.mark.timeout(120)
def test_it_is_tried_again_as_often_as_its_attempts_allow(stage: Stage) -> None:
    stage.start("scheduler")
    worker = stage.worker(threads=1, slots=1)
    job = stage.enqueue_with("keeps_the_interpreter", {"seconds": 60}, hard_timeout="1500ms", max_attempts=2)
    until(lambda: stage.job(job).errors, PATIENCE)
    late = ended(stage, job)
    assert late.state == "failed"
    check_blamed(worker, late, 2)


@pytest.mark.timeout(120)
def test_a_hard_timeout_does_not_strike_a_job_that_heeds_its_timeout(stage: Stage) -> None:
    stage.start("scheduler")
    worker = stage.worker(threads=1, slots=1)
    late = ended(stage, stage.enqueue_with("dozes", {"seconds": 60}, timeout="500ms", hard_timeout="10s"))
    assert late.state == "failed"
    assert "its timeout of 0.5 s" in late.errors[0]["message"]
    after = ended(stage, stage.enqueue_with("dozes", {"seconds": 2}, hard_timeout="20s"))
    assert after.state == "succeeded"
    assert worker.events("worker.exited") == worker.events("job.hard_timeout") == []
