"""Workers of two versions side by side: what one cannot run goes back for the other, and costs no attempt."""

import signal

import pytest

from callboard.jobs.model.states import JobState
from callboard.jobs.operate.reasons import Code
from tests.e2e.stage import Stage, until

OLD = """
from callboard import RetryPolicy, job
from callboard.jobs.errors import InvalidArguments

ONCE = RetryPolicy(max_attempts=1)

@job(retry=ONCE)
def greet(name: str) -> str:
    return f"hello {name}"

@job(queue="async", retry=ONCE)
async def greet_async(name: str) -> str:
    return f"hello {name}"

@job(retry=ONCE)
def mistaken() -> None:
    greet.fn()

@job(retry=ONCE)
def confused() -> None:
    raise InvalidArguments("kwargs.tone: no such argument")
"""
NEW = """
from callboard import RetryPolicy, job

ONCE = RetryPolicy(max_attempts=1)

@job(retry=ONCE)
def greet(name: str, tone: int) -> str:
    return f"hello {name}" + "!" * tone

@job(queue="async", retry=ONCE)
async def greet_async(name: str, tone: int) -> str:
    return f"hello {name}" + "!" * tone

@job(retry=ONCE)
def welcome(name: str, tone: int) -> str:
    return f"welcome {name}" + "!" * tone
"""
NEW_CALL = {"name": "ada", "tone": 2}


@pytest.fixture
def versions(stage: Stage) -> Stage:
    """A stage with two modules of the same jobs, `old` and `new`, and a scheduler."""
    (stage.folder / "old.py").write_text(OLD)
    (stage.folder / "new.py").write_text(NEW)
    stage.start("scheduler")
    return stage


def enqueue(stage: Stage, name: str, kwargs: dict[str, object]):
    queue = "async" if name == "greet_async" else "default"
    return stage.enqueue_with(name, kwargs, queue=queue, unchecked=True, max_attempts=1)


def test_what_the_old_version_cannot_run_waits_for_the_new_one(versions: Stage) -> None:
    stage = versions
    old = stage.worker(jobs="old")
    said = {
        enqueue(stage, "welcome", NEW_CALL): "does not know the job 'welcome'",
        enqueue(stage, "greet", NEW_CALL): "cannot call it, kwargs.tone: no such argument",
        enqueue(stage, "greet_async", NEW_CALL): "cannot call it, kwargs.tone: no such argument",
    }
    for job, reason in said.items():
        until(lambda job=job: stage.job(job).put_off)
        kept = stage.job(job)
        assert (kept.attempt, kept.errors) == (0, [])
        assert kept.put_off_reason.endswith(f": {reason}")
        why = {found.code: found for found in stage.platform.why.explain(job).reasons}
        assert reason in why[Code.PUT_OFF].text
    # the old version goes on with what it knows
    fits = enqueue(stage, "greet", {"name": "bob"})
    assert stage.platform.waiting.wait(fits, None).result == "hello bob"
    told = old.events("job.put_off")
    assert {event["job_id"] for event in told} == {str(job) for job in said}
    assert old.events("job.snoozed") == []
    stage.worker(jobs="new")
    old.send(signal.SIGTERM)
    ends = [stage.platform.waiting.wait(job, None) for job in said]
    assert [(end.state, end.result) for end in ends] == [
        (JobState.SUCCEEDED, "welcome ada!!"),
        (JobState.SUCCEEDED, "hello ada!!"),
        (JobState.SUCCEEDED, "hello ada!!"),
    ]
    assert [(end.attempt, end.put_off, end.put_off_reason) for end in ends] == [(1, 0, None)] * 3


def test_what_was_enqueued_for_the_old_version_can_still_be_run_by_it(versions: Stage) -> None:
    stage = versions
    new = stage.worker(jobs="new", metrics_port=0)
    job = enqueue(stage, "greet", {"name": "bob"})
    until(lambda: stage.job(job).put_off)
    assert stage.job(job).put_off_reason.endswith(": cannot call it, kwargs.tone: missing")
    counted = 'callboard_jobs_put_off_total{queue="default",reason="arguments"}'
    until(lambda: new.metric(counted) >= 1)
    # as when a deploy is taken back
    new.send(signal.SIGTERM)
    stage.worker(jobs="old")
    end = stage.platform.waiting.wait(job, None)
    assert (end.state, end.result, end.attempt) == (JobState.SUCCEEDED, "hello bob", 1)


def test_a_mistake_in_a_jobs_own_code_is_a_failure_of_the_job(versions: Stage) -> None:
    stage = versions
    worker = stage.worker(jobs="old")
    jobs = [enqueue(stage, name, {}) for name in ("mistaken", "confused")]
    ends = [stage.platform.waiting.wait(job, None) for job in jobs]
    assert [(end.state, end.attempt, end.put_off) for end in ends] == [(JobState.FAILED, 1, 0)] * 2
    assert [end.errors[0]["class"] for end in ends] == ["TypeError", "InvalidArguments"]
    assert worker.events("job.put_off") == []
