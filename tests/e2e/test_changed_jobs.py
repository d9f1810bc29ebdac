"""Jobs whose rows somebody changed by hand hold up nobody, and none of them runs for ever."""

from callboard.jobs.model.states import JobState
from tests.changed_rows import SPOILED_JOBS, change
from tests.e2e.stage import Stage

#: With these values an attempt must not start. JSON null is no options.
REFUSED = [
    one
    for one in SPOILED_JOBS
    if ("options" in one and "null" not in one) or ("timeout" in one and "-1 hour" in one)
]
#: A queue and a name that nobody serves, an end before the start, and a request to stop.
NOT_RUN = ("name", "queue", "expires_at", "cancel_requested_at")


def test_each_changed_job_runs_or_fails_with_a_clear_reason_and_the_others_run(stage: Stage) -> None:
    jobs = {
        one: stage.enqueue_with("ledger", {"n": 1}, delay="1h")
        for one in SPOILED_JOBS
        if not one.startswith(NOT_RUN) and "args" not in one
    }
    for assignment, job in jobs.items():
        change(stage.platform, "jobs", "id = :id", "run_at = now(), max_attempts = 1", id=job)
        change(stage.platform, "jobs", "id = :id", f"state = 'queued', {assignment}", id=job)
    plain = [stage.enqueue("ledger", n=1) for _ in range(5)]
    stage.worker(processes=1)
    scheduler = stage.start("scheduler")
    for job in plain:
        assert stage.platform.waiting.wait(job, None).state is JobState.SUCCEEDED
    for assignment, job in jobs.items():
        ended = stage.platform.waiting.wait(job, None)
        if assignment in REFUSED:
            assert ended.state is JobState.FAILED, assignment
            assert "correct the row" in ended.errors[-1]["message"]
        else:
            assert ended.state is JobState.SUCCEEDED, (assignment, ended.errors)
    assert not scheduler.events("scheduler.loop_failed")
