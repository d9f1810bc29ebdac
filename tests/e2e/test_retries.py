"""When a job runs again, or later, or not at all: across restarts of the worker, the scheduler and Redis."""

import signal
from datetime import datetime, timedelta
from uuid import UUID

from callboard.jobs.model.basics.clock import SYSTEM
from tests.e2e.stage import Stage, own_servers, own_stage, strike, until


def test_a_job_that_fails_is_tried_again_after_its_delay_though_everything_is_restarted_in_between(
    database_url, platform
) -> None:
    with own_servers() as servers:
        servers.valkey.ensure()
        with own_stage(servers, database_url, servers.urls.redis_url) as stage:
            running = [stage.start("scheduler"), stage.worker()]
            job = stage.enqueue("fails_twice")
            due = []
            for attempt in (1, 2):
                until(lambda attempt=attempt: has_failed(stage, job, attempt))
                due.append(stage.job(job).run_at)
                for process in running:
                    process.kill_all()
                strike(servers.valkey, signal.SIGKILL)
                servers.valkey.ensure()
                running = [stage.start("scheduler"), stage.worker()]
            until(lambda: stage.job(job).finished)
            done = stage.job(job)
            assert (done.state, done.attempt, done.crash_count, done.result) == ("succeeded", 3, 0, 3)
            assert [(error["attempt"], error["class"], error["message"]) for error in done.errors] == [
                (1, "ValueError", "attempt 1"), (2, "ValueError", "attempt 2"),
            ]  # fmt: skip
            assert all("fails_twice" in error["traceback"] for error in done.errors)
            # the policy waits four seconds; a restart neither shortens that nor begins it anew
            failed = [datetime.fromisoformat(error["at"]) for error in done.errors]
            # it begins when the failure is written, which may be a while after it happened
            assert all(
                timedelta(seconds=4) <= when - at < timedelta(seconds=14)
                for when, at in zip(due, failed, strict=True)
            )
            assert failed[1] > due[0]
            assert done.run_at == due[1]
            assert done.started_at >= due[1]
            assert stage.starts() == {str(job): 3}


def has_failed(stage: Stage, job: UUID, attempt: int) -> bool:
    found = stage.job(job)
    return (found.state, found.attempt) == ("retrying", attempt)


def test_a_delayed_job_begins_when_it_is_due_and_not_before(stage) -> None:
    stage.start("scheduler")
    stage.worker()
    due = SYSTEM.now() + timedelta(seconds=5)
    jobs = [
        stage.enqueue_with("clock", {}, delay="5s"),
        stage.enqueue_with("clock", {}, run_at=due.isoformat()),
    ]
    assert stage.states() == {"scheduled": 2}
    until(lambda: stage.states() == {"succeeded": 2})
    for job in map(stage.job, jobs):
        assert job.run_at - job.enqueued_at > timedelta(seconds=1)
        assert float(job.result) >= job.run_at.timestamp()
        assert job.attempt == 1


def test_a_job_that_snoozes_comes_back_and_spends_no_attempt(stage) -> None:
    stage.start("scheduler")
    stage.worker()
    gate = stage.folder / "gate"
    job = stage.enqueue("snoozes_until_there", path=str(gate))
    until(lambda: stage.starts().total() >= 3)
    assert stage.job(job).attempt <= 1
    gate.touch()
    until(lambda: stage.job(job).finished)
    done = stage.job(job)
    assert (done.state, done.attempt, done.errors) == ("succeeded", 1, [])


def test_a_job_that_nobody_took_before_it_expired_never_runs(stage) -> None:
    stage.start("scheduler")
    soon = (SYSTEM.now() + timedelta(seconds=4)).isoformat()
    late = stage.enqueue_with("ledger", {"n": 0}, expires_at=soon)
    timely = stage.enqueue_with("ledger", {"n": 1}, expires_at="2099-01-01T00:00:00Z")
    until(lambda: stage.job(late).state == "cancelled")
    stage.worker()
    until(lambda: stage.job(timely).finished)
    assert stage.starts() == {str(timely): 1}
