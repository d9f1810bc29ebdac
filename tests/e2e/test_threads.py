"""Jobs that exit, or hold what other jobs need, and what becomes of the jobs beside and after them."""

import shutil
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest

from callboard.jobs.model.job import Job
from callboard.jobs.model.states import JobState
from tests.e2e.stage import Process, Stage, until

HERE = Path(__file__).parent
PATIENCE = 60.0
SYNC = ("sys.exit", "_thread.exit", "KeyboardInterrupt", "GeneratorExit", "own")
ASYNC = ("sys.exit", "CancelledError", "cancel", "group", "stop", "task", "own")


def worker(stage: Stage, **settings: object) -> Process:
    shutil.copy(HERE / "thread_jobs.py", stage.folder)
    return stage.worker(jobs="thread_jobs", threads=2, metrics_port=0, **settings)


def ended(stage: Stage, jobs: list[UUID]) -> list[Job]:
    return [
        until(lambda job=job: found if (found := stage.job(job)).finished else None, PATIENCE) for job in jobs
    ]


@pytest.mark.timeout(120)
def test_exits_of_all_kinds_are_failed_attempts_and_200_good_jobs_run_after_them(stage: Stage) -> None:
    started = worker(stage)
    odd = {("exits", how): [stage.enqueue("exits", how=how) for _ in range(20)] for how in SYNC}
    odd |= {("exits_async", how): [stage.enqueue("exits_async", how=how) for _ in range(20)] for how in ASYNC}
    left = [stage.enqueue("leaves_exits_behind") for _ in range(5)]
    for which, jobs in odd.items():
        found = ended(stage, jobs)
        assert {(job.state, job.attempt, job.crash_count) for job in found} == {("failed", 1, 0)}, which
    assert {job.state for job in ended(stage, left)} == {JobState.SUCCEEDED}
    after = [*stage.enqueue_many("good", 100), *stage.enqueue_many("good_async", 100)]
    assert Counter(job.state for job in ended(stage, after)) == {"succeeded": 200}
    assert Counter(job.attempt for job in ended(stage, after)) == {1: 200}
    failures = 'callboard_thread_failures_total{thread="async"}'
    assert until(lambda: started.metric(failures)) >= 1
    assert started.events("thread.failed")[0]["thread"] == "callboard-async"
    assert started.events("worker.exited") == []
    assert stage.states() == {"failed": 240, "succeeded": 205}


@pytest.mark.timeout(60)
def test_a_job_that_looks_sync_and_is_not_runs_and_its_time_limit_reaches_it(stage: Stage) -> None:
    worker(stage)
    jobs = [stage.enqueue("looks_sync", n=n) for n in range(20)]
    late = stage.enqueue_with("naps_behind_a_wrapper", {"seconds": 60}, timeout="500ms")
    cancelled = stage.enqueue("naps_behind_a_wrapper", seconds=60)
    until(lambda: stage.job(cancelled).state is JobState.RUNNING)
    stage.platform.control.cancel(cancelled)
    assert [job.result for job in ended(stage, jobs)] == [n + 1 for n in range(20)]
    [timed_out, stopped] = ended(stage, [late, cancelled])
    assert (timed_out.state, timed_out.errors[0]["class"]) == ("failed", "TimedOut")
    assert stopped.state is JobState.CANCELLED


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_job_that_holds_the_loop_is_named_and_the_jobs_beside_it_are_late_and_not_blamed(
    stage: Stage,
) -> None:
    started = worker(stage)
    naps = [stage.enqueue_with("naps", {"seconds": 1.5}, timeout="3s", hard_timeout="4s") for _ in range(5)]
    until(lambda: {job.state for job in map(stage.job, naps)} == {JobState.RUNNING})
    holder = stage.enqueue("blocks", seconds=6)
    [event] = until(lambda: started.events("worker.loop_held"))
    assert event["job_id"] == str(holder)
    assert any("thread_jobs.py" in line for line in event["where"])

    def reason(job: UUID) -> str | None:
        found = [one for one in stage.platform.why.explain(job).reasons if one.code == "worker_held"]
        return found[0].message if found else None

    told = until(lambda: reason(naps[0]))
    assert told is not None
    assert told.startswith(f"job {holder} (blocks) holds the event loop of its worker for ")
    assert (own := reason(holder)) is not None
    assert own.startswith("it holds the event loop of its worker for ")
    beside = [stage.enqueue("good", n=n) for n in range(20)]
    assert {job.state for job in ended(stage, beside)} == {JobState.SUCCEEDED}
    assert stage.job(holder).state is JobState.RUNNING
    found = ended(stage, [*naps, holder])
    assert {(job.state, job.attempt, job.crash_count) for job in found} == {("succeeded", 1, 0)}
    assert started.metric('callboard_worker_holds_total{kind="loop"}') == 1
    assert until(lambda: started.metric('callboard_worker_held_seconds_total{kind="loop"}')) > 1
    assert started.events("worker.exited") == []
    after = stage.enqueue("naps", seconds=30)
    until(lambda: stage.job(after).state is JobState.RUNNING)
    until(lambda: reason(after) is None)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_job_that_holds_the_interpreter_is_named_while_it_does_and_afterwards(stage: Stage) -> None:
    started = worker(stage)
    holder = stage.enqueue("keeps_the_lock", seconds=8)
    until(lambda: stage.job(holder).state is JobState.RUNNING)
    found = until(
        lambda: [one for one in stage.platform.why.explain(holder).reasons if one.code == "worker_held"]
    )
    assert found[0].text.startswith("it holds the interpreter of its worker for ")
    assert ended(stage, [holder])[0].state is JobState.SUCCEEDED
    [event] = until(lambda: started.events("worker.interpreter_held"))
    assert event["job_id"] == str(holder)
    assert started.metric('callboard_worker_holds_total{kind="interpreter"}') == 1
