"""A worker that is told to stop: what has not begun goes back at once, what runs may end, nothing is lost."""

import os
import signal
from uuid import UUID

import psutil
import pytest

from callboard.jobs.model.request import job_request
from tests.e2e.stage import Process, Stage, until
from tests.integration.core.factories import enqueue_all


def test_a_draining_worker_hands_back_what_has_not_begun_and_finishes_what_has(stage: Stage) -> None:
    gate = stage.folder / "gate"
    jobs = [stage.enqueue("until_there", path=str(gate)) for _ in range(200)]
    stage.start("scheduler")
    worker = stage.worker(processes=2, threads=8, slots=100)
    # what runs, and at first as many again that wait for a thread
    until(lambda: stage.states()["running"] >= 30)
    stage.wait_started(16)
    worker.send(signal.SIGTERM)
    # what waits goes back while what runs still runs
    until(lambda: stage.states() == {"running": 16, "queued": 184})
    gate.touch()
    assert worker.ends() == 0
    states = stage.states()
    assert states == {"succeeded": 16, "queued": 184}
    began = stage.starts()
    ended = [stage.job(job) for job in jobs]
    assert {str(job.id) for job in ended if job.state == "succeeded"} == set(began)
    assert began.total() == states["succeeded"]
    assert {job.attempt for job in ended if job.state == "queued"} == {0}
    assert stage.crashes() == {0: 200}
    assert stage.platform.workers.live() == []


def long_jobs(stage: Stage) -> list[UUID]:
    """A job of each kind that outlasts the test, running; the last one cannot be interrupted."""
    jobs = [stage.enqueue(name, seconds=120) for name in ("dozes", "naps", "stubborn")]
    stage.start("scheduler")
    return jobs


def check_given_back(stage: Stage, jobs: list[UUID], worker: Process) -> None:
    assert worker.ends() == 0
    ended = [stage.job(job) for job in jobs]
    assert [(job.state, job.attempt, job.crash_count) for job in ended] == [("queued", 0, 0)] * len(jobs)
    assert stage.platform.workers.live() == []


def test_a_second_sigterm_ends_long_jobs_and_gives_their_attempts_back(stage: Stage) -> None:
    jobs = long_jobs(stage)
    worker = stage.worker(grace="10m")
    stage.wait_started(3)
    worker.send(signal.SIGTERM)
    until(lambda: worker.events("worker.draining"))
    worker.send(signal.SIGTERM)
    check_given_back(stage, jobs, worker)


def test_a_sigterm_to_all_processes_of_a_worker_leaves_its_jobs_the_grace_period(stage: Stage) -> None:
    """As service managers send it."""
    job = stage.enqueue("dozes", seconds=3)
    stage.start("scheduler")
    worker = stage.worker(processes=1, grace="1m")
    stage.wait_started(1)
    worker.send_all(signal.SIGTERM)
    assert worker.ends() == 0
    done = stage.job(job)
    assert (done.state, done.attempt) == ("succeeded", 1)


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_sends_sigterm_to_its_process_runs_once_and_stops_nothing(
    stage: Stage, times: int
) -> None:
    # Both outlast the grace period.
    jobs = [stage.enqueue("signals", times=times, then=3.0), stage.enqueue("naps", seconds=3.0)]
    stage.start("scheduler")
    worker = stage.worker(processes=1, threads=2, grace="1s")
    (lease,) = stage.leases(worker)
    until(lambda: stage.states() == {"succeeded": 2})
    assert {(job.attempt, job.crash_count) for job in map(stage.job, jobs)} == {(1, 0)}
    assert stage.starts().total() == 2
    assert stage.leases(worker)[0].id == lease.id
    assert {event["supervisor"] for event in worker.events("worker.sigterm_ignored")} == {worker.pid}
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    assert worker.events("worker.draining")


@pytest.mark.parametrize("grace", ["0s", "1s"])
def test_jobs_that_outlast_the_grace_period_are_given_back(stage: Stage, grace: str) -> None:
    jobs = long_jobs(stage)
    worker = stage.worker(grace=grace)
    stage.wait_started(3)
    worker.send(signal.SIGTERM)
    check_given_back(stage, jobs, worker)


def test_children_whose_supervisor_is_killed_drain_by_themselves(stage: Stage) -> None:
    jobs = stage.enqueue_many("second", 40)
    stage.start("scheduler")
    worker = stage.worker(processes=1, threads=4, slots=40)
    stage.wait_started(4)
    worker.kill()
    until(lambda: stage.platform.workers.live() == [])
    states = stage.states()
    assert states.total() == states["queued"] + states["succeeded"] == 40
    assert states["succeeded"] == stage.starts().total() >= 4
    assert {stage.job(job).attempt for job in jobs if stage.job(job).state == "queued"} == {0}


def test_long_sync_jobs_in_a_queue_of_async_ones_are_not_hoarded(stage: Stage) -> None:
    naps = job_request({"name": "naps", "kwargs": {"seconds": 0}})
    enqueue_all(stage.platform, [naps] * 2000)
    second = job_request({"name": "second", "queue": "async", "kwargs": {"n": 0}})
    enqueue_all(stage.platform, [second] * 400)
    stage.start("scheduler")
    worker = stage.worker(processes=1, threads=4)
    until(lambda: stage.states()["succeeded"] >= 2000)
    # those that run, as many again, and a few
    until(lambda: 0 < stage.states()["running"] <= 16)
    assert worker.events("jobs.handed_back")
    assert stage.states().total() == 2400
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
    ended = stage.states()
    assert ended.total() == ended["queued"] + ended["succeeded"] == 2400


@pytest.mark.long
def test_jobs_with_large_arguments_by_the_hundred_fit_into_a_child(stage: Stage) -> None:
    text = os.urandom(500_000).hex()
    swallow = job_request({"name": "swallows", "kwargs": {"text": text}})
    for _ in range(10):
        enqueue_all(stage.platform, [swallow] * 15)
    stage.start("scheduler")
    worker = stage.worker(processes=1, threads=4)
    most = 0

    def done() -> bool:
        nonlocal most
        children = psutil.Process(worker.pid).children(recursive=True)
        most = max([most, *(child.memory_info().rss for child in children)])
        return stage.states()["succeeded"] == 150

    until(done)
    print(f"a child took {most / 2**20:.0f} MiB")
    assert most < 300 * 2**20
    assert stage.attempts() == {1: 150}
