"""Jobs that misbehave harm themselves alone."""

from sqlalchemy import text

from callboard.jobs.model.states import JobState
from tests.e2e.stage import Stage


def test_odd_jobs_end_as_what_they_are_and_hold_up_nobody(stage: Stage) -> None:
    stage.worker(processes=1)
    odd = [stage.enqueue(name) for name in ("unspeakable", "unspeakable_async", "garbled_note")]
    unreadable = stage.enqueue_with("ledger", {"n": 1}, delay="1h")
    with stage.platform.database.transaction() as connection:
        # written past every door: JSON that Postgres takes and nobody reads back
        connection.execute(
            text(
                "UPDATE callboard.jobs SET kwargs = jsonb_build_object('n', (repeat('[', 1500) || repeat(']', 1500))::jsonb),"
                " state = 'queued', run_at = now(), max_attempts = 1 WHERE id = :id"
            ),
            {"id": unreadable},
        )
    stage.start("scheduler")
    ends = [stage.platform.waiting.wait(job, None) for job in (*odd, unreadable)]
    assert [end.state for end in ends] == [
        JobState.FAILED, JobState.FAILED, JobState.SUCCEEDED, JobState.FAILED,
    ]  # fmt: skip
    assert [end.errors[0]["class"].rpartition(".")[2] for end in ends if end.errors] == [
        "Unspeakable", "Unspeakable", "Failed",
    ]  # fmt: skip
    after = stage.enqueue("ledger", n=1)
    assert stage.platform.waiting.wait(after, None).state is JobState.SUCCEEDED
