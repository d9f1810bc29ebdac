"""What a put-off writes, and what wipes it."""

from datetime import timedelta

import pytest

from callboard.jobs.attempts.repository import ending
from callboard.jobs.feed import repository as feed_repository
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from tests.integration.core.factories import Execution, claimed, run_sql


def put_off(platform, worker: Execution, job, why="host:1: does not know the job 'build_report'") -> None:
    worker.finish(
        [Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=timedelta(seconds=9), put_off=why)]
    )


def again(platform, worker: Execution, job):
    """The job's next attempt."""
    run_sql(platform, "UPDATE callboard.jobs SET run_at = now() WHERE id = :id", id=job.id)
    with platform.database.transaction() as connection:
        (hint,) = feed_repository.stage(connection, 10)
    (taken,) = worker.claim([(hint.id, hint.epoch)])
    return taken


def test_a_job_that_is_put_off_waits_and_spends_no_attempt(platform, worker):
    (job,) = claimed(platform, worker, max_attempts=1)
    for times in (1, 2, 3):
        put_off(platform, worker, job)
        kept = platform.jobs.get(job.id)
        assert (kept.state, kept.attempt, kept.put_off) == (JobState.SCHEDULED, 0, times)
        assert kept.put_off_reason == "host:1: does not know the job 'build_report'"
        assert kept.errors == []
        job = again(platform, worker, job)
        assert (job.attempt, job.put_off) == (1, times)


@pytest.mark.parametrize("verb", [Verb.COMPLETE, Verb.RETRY, Verb.SNOOZE, Verb.FAIL, Verb.STOP])
def test_an_attempt_that_ran_wipes_what_was_put_off_before(platform, worker, verb):
    (job,) = claimed(platform, worker)
    put_off(platform, worker, job)
    job = again(platform, worker, job)
    delay = timedelta(0) if verb in {Verb.RETRY, Verb.SNOOZE} else None
    worker.finish([Finish(job.id, job.epoch, job.claim_id, verb, delay=delay)])
    kept = platform.jobs.get(job.id)
    assert (kept.put_off, kept.put_off_reason) == (0, None)


def test_what_was_handed_back_was_not_run_and_keeps_its_count(platform, worker):
    (job,) = claimed(platform, worker)
    put_off(platform, worker, job)
    worker.hand_back([again(platform, worker, job)])
    assert platform.jobs.get(job.id).put_off == 1


def test_a_put_off_of_a_job_that_should_stop_ends_it(platform, worker):
    (job,) = claimed(platform, worker)
    platform.control.cancel(job.id)
    put_off(platform, worker, job)
    assert platform.jobs.get(job.id).state is JobState.CANCELLED


def test_a_job_that_is_put_off_can_be_cancelled_and_begins_anew_when_it_is_rerun(platform, worker):
    (job,) = claimed(platform, worker)
    put_off(platform, worker, job)
    assert platform.control.cancel(job.id).state is JobState.CANCELLED
    rerun = platform.control.rerun(job.id)
    assert (rerun.state, rerun.put_off, rerun.put_off_reason) == (JobState.QUEUED, 0, None)


def test_the_count_stops_where_the_column_ends(platform, worker):
    (job,) = claimed(platform, worker)
    run_sql(platform, "UPDATE callboard.jobs SET put_off = 32767")
    put_off(platform, worker, job)
    assert platform.jobs.get(job.id).put_off == 32767


def test_a_late_put_off_is_refused_like_any_end(platform, worker):
    (job,) = claimed(platform, worker)
    with platform.database.transaction() as connection:
        stale = Finish(job.id, job.epoch, new_id(), Verb.SNOOZE, delay=timedelta(0), put_off="no")
        assert ending.finish(connection, [stale]) == []
