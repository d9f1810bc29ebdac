"""Crashes that are no job's fault: innocents run on at once, suspects run alone soon, and no job is blamed that
is not the cause.
"""

import os
import signal
import time

import pytest
from sqlalchemy import text

from tests.e2e.stage import Process, Stage, until

#: Many processes boot on a machine that may be busy. Seconds.
PATIENCE = 150.0
MANY = 256


def starts_after(stage: Stage, worker: Process, count: int) -> float:
    """Kill the one child of a worker; return after how many seconds so many attempts have begun again."""
    (victim,) = stage.leases(worker)
    before, killed_at = stage.starts().total(), time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: stage.starts().total() >= before + count, PATIENCE)
    return time.monotonic() - killed_at


def standing(stage: Stage) -> set[tuple[object, ...]]:
    """The different states, crashes, suspicions and attempts of all jobs."""
    statement = text("SELECT DISTINCT state, crash_count, suspected, solo, attempt FROM callboard.jobs")
    with stage.platform.database.autocommit() as connection:
        return {tuple(row) for row in connection.execute(statement)}


@pytest.mark.timeout(200)
def test_after_the_kill_of_a_child_with_many_async_jobs_all_start_again_beside_each_other(
    stage: Stage,
) -> None:
    for _ in range(MANY):
        stage.enqueue("naps", seconds=30.0)
    stage.start("scheduler")
    worker = stage.worker(processes=1, threads=1, async_slots=MANY)
    stage.wait_started(MANY)
    seconds = starts_after(stage, worker, MANY)
    assert standing(stage) == {("running", 0, 1, False, 1)}
    assert [event["solo"] for event in worker.events("worker.started")] == [False, False]
    print(f"all {MANY} innocents had started again after {seconds:.1f} s")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_several_jobs_that_kill_their_process_are_convicted_at_their_third_death_beside_many_others(
    stage: Stage,
) -> None:
    poisons = [stage.enqueue("deadly_async", how=how) for how in ("kill", "exit", "segfault")]
    siblings = [stage.enqueue("naps", seconds=0.5) for _ in range(60)]
    sync = stage.enqueue_many("second", 12)
    poisons.append(stage.enqueue("deadly", how="exit"))
    stage.start("scheduler")
    worker = stage.worker(processes=1, threads=8, async_slots=MANY)
    began = time.monotonic()
    until(lambda: stage.states() == {"quarantined": 4, "succeeded": 72}, PATIENCE)
    print(f"four of 76 jobs were convicted after {time.monotonic() - began:.1f} s")
    # One that began beside another's death counts it too, and has itself died less often.
    assert {stage.job(job).crash_count for job in poisons} == {3}
    assert max(stage.starts()[str(job)] for job in poisons) <= 3
    ended = [stage.job(job) for job in [*siblings, *sync]]
    assert {(job.crash_count, job.attempt, job.solo) for job in ended} == {(0, 1, False)}
    assert worker.alive


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", ["deadly_result", "deadly_result_async"])
def test_a_job_that_kills_its_process_between_its_end_and_the_commit_is_quarantined_alone(
    stage: Stage, name: str
) -> None:
    poison = stage.enqueue(name, seconds=0.3)
    siblings = [stage.enqueue("naps", seconds=0.5) for _ in range(20)] + stage.enqueue_many("ledger", 20)
    stage.start("scheduler")
    worker = stage.worker(processes=1, threads=8)
    until(lambda: stage.states() == {"quarantined": 1, "succeeded": 40}, PATIENCE)
    dead = stage.job(poison)
    assert (dead.state, dead.crash_count) == ("quarantined", 3)
    assert "SIGABRT" in dead.errors[-1]["message"]
    assert stage.starts()[str(poison)] <= 3
    assert {(job.crash_count, job.attempt) for job in map(stage.job, siblings)} == {(0, 1)}
    assert worker.alive


@pytest.mark.timeout(200)
def test_a_lone_child_runs_many_suspects_and_a_killed_one_is_replaced_without_blame(stage: Stage) -> None:
    jobs = stage.enqueue_many("ledger", 50)
    with stage.platform.database.transaction() as connection:
        connection.execute(text("UPDATE callboard.jobs SET solo = true, suspected = 2"))
    # One job that takes long must not hold up the others.
    gate = stage.folder / "gate"
    long = stage.enqueue_with("until_there", {"path": str(gate)}, priority=0)
    with stage.platform.database.transaction() as connection:
        connection.execute(
            text("UPDATE callboard.jobs SET solo = true, suspected = 2 WHERE id = :id"), {"id": long}
        )
    stage.start("scheduler")
    worker = stage.start("worker", processes=1)
    # Killed while it boots.
    (first, *_) = until(
        lambda: [event for event in worker.events("worker.started") if event["solo"]], PATIENCE
    )
    began = time.monotonic()
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    until(lambda: stage.states()["succeeded"] == 50, PATIENCE)
    print(f"50 suspects had run {time.monotonic() - began:.1f} s after the kill of the first lone child")
    assert {(job.crash_count, job.attempt, job.solo) for job in map(stage.job, jobs)} == {(0, 1, False)}
    lone = [event for event in worker.events("worker.started") if event["solo"]]
    assert len(lone) <= 8
    assert stage.starts().total() == 51
    # Killed without a job.
    runs_long = stage.job(long).worker_id
    idle = [lease for lease in stage.leases(worker) if lease.threads == 1 and lease.id != runs_long]
    for lease in idle:
        os.kill(lease.pid, signal.SIGKILL)
    gate.touch()
    done = stage.platform.waiting.wait(long, None)
    assert (done.state, done.crash_count, done.attempt) == ("succeeded", 0, 1)
    assert worker.events("job.crashed") == worker.events("job.suspected") == []


def test_after_the_kill_of_a_supervisor_its_orphans_finish_and_nothing_is_blamed(stage: Stage) -> None:
    # Longer than the lease, which nobody but the orphan renews.
    job, other = stage.enqueue("dozes", seconds=9), stage.enqueue("naps", seconds=9)
    stage.start("scheduler", lease_ttl="5s")
    worker = stage.worker(processes=1, threads=2, lease_ttl="5s", grace="30s")
    stage.wait_started(2)
    worker.kill()
    stage.worker(processes=1, threads=2, lease_ttl="5s")
    for each in (job, other):
        done = stage.platform.waiting.wait(each, None)
        assert (done.state, done.attempt, done.crash_count, done.solo) == ("succeeded", 1, 0, False)
    assert stage.starts().total() == 2
