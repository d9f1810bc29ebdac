"""A worker that sleeps through its lease wakes up to find its jobs run elsewhere: what it still writes is
refused.
"""

import os
import signal
from uuid import UUID

import pytest

from tests.e2e.stage import Process, Stage, until

STALE = 'callboard_stale_writes_total{writer="flusher"}'
LEASE = {"lease_ttl": "5s"}


def sleeper(stage: Stage) -> Process:
    """A worker of one child and two threads, which are to sleep."""
    stage.start("scheduler", **LEASE)
    return stage.worker(threads=2, slots=8, metrics_port=0, **LEASE)


def let_others_run(stage: Stage, jobs: list[UUID], gate: str) -> int:
    """Have a second worker take the jobs over and finish them; returns its child's process id."""
    other = stage.worker(threads=2, slots=8, **LEASE)
    [lease] = stage.leases(other)
    until(lambda: {stage.job(job).worker_id for job in jobs} == {lease.id})
    stage.wait_started(2 * len(jobs))
    (stage.folder / gate).touch()
    for job in jobs:
        stage.platform.waiting.wait(job, None)
    return lease.pid


def check_refused(stage: Stage, jobs: list[UUID], woken: Process, before: int, winner: int) -> None:
    """The late results are counted and not applied, and the sleeper's child is replaced."""
    late = {str(job) for job in jobs}
    until(lambda: {str(event["job_id"]) for event in woken.events("job.stale_write")} == late)
    assert woken.metric(STALE) >= len(jobs)
    until(lambda: [lease.pid for lease in stage.leases(woken)] not in ([], [before]))
    assert woken.events("worker.lease_lost")
    ended = [stage.job(job) for job in jobs]
    assert [(job.state, job.result, job.attempt) for job in ended] == [("succeeded", winner, 1)] * len(jobs)
    after = stage.enqueue("ledger", n=1)
    assert stage.platform.waiting.wait(after, None).result == 1


@pytest.mark.long
def test_what_a_stopped_worker_writes_when_it_wakes_up_is_refused(stage: Stage) -> None:
    worker = sleeper(stage)
    jobs = [stage.enqueue("until_there", path=str(stage.folder / "gate")) for _ in range(2)]
    stage.wait_started(2)
    [lease] = stage.leases(worker)
    worker.send_all(signal.SIGSTOP)
    winner = let_others_run(stage, jobs, "gate")
    worker.send_all(signal.SIGCONT)
    check_refused(stage, jobs, worker, lease.pid, winner)


@pytest.mark.long
def test_a_child_that_stands_still_loses_its_jobs_and_is_replaced(stage: Stage) -> None:
    worker = sleeper(stage)
    jobs = [stage.enqueue("until_there", path=str(stage.folder / "gate")) for _ in range(2)]
    stage.wait_started(2)
    [lease] = stage.leases(worker)
    # once it has been vouched for it has shown a pulse: from then on standing still is noticed
    until(lambda: stage.leases(worker)[0].lease_expires_at > lease.lease_expires_at)
    os.kill(lease.pid, signal.SIGSTOP)
    winner = let_others_run(stage, jobs, "gate")
    until(lambda: [now.pid for now in stage.leases(worker)] not in ([], [lease.pid]))
    assert [event["code"] for event in worker.events("worker.exited")] == [-signal.SIGKILL]
    ended = [stage.job(job) for job in jobs]
    assert [(job.state, job.result, job.attempt) for job in ended] == [("succeeded", winner, 1)] * 2
    assert worker.metric(STALE) == 0
