"""An attempt's way through the database: claimed once, ended once, and no answer that is lost on the way
loses a job.
"""

import os
from collections import Counter
from datetime import timedelta

import pytest

from callboard.jobs.attempts.progress import Progress
from callboard.jobs.errors import Unavailable
from callboard.jobs.feed import repository as feed_repository
from callboard.jobs.metrics import STALE_WRITES
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from tests.integration.core.factories import (
    at_once,
    claimed,
    count,
    enqueue,
    execution,
    lease,
    run_out,
    states,
    without_redis,
)


def test_a_claim_takes_what_the_job_is_and_counts_the_attempt(platform, worker):
    (job_id,) = enqueue(platform, kwargs={"n": 1}, args=[2], timeout="5s", priority=0, max_attempts=3)
    (job,) = worker.claim([(str(job_id), 0)])
    assert (job.id, job.epoch, job.attempt, job.max_attempts) == (job_id, 1, 1, 3)
    assert (job.kwargs, job.args, job.timeout, job.priority) == ({"n": 1}, [2], timedelta(seconds=5), 0)
    now = platform.jobs.get(job_id)
    assert (now.state, now.worker_id, now.started_at) == ("running", worker.worker, job.started_at)
    assert now.enqueued_at <= now.started_at


def test_large_arguments_are_read_of_as_many_as_fit_and_small_ones_come_with_the_claim(platform, worker):
    small = enqueue(platform, 20, kwargs={"text": "x" * 2_000})
    # Letters in no order, so that they stay as large when they are stored.
    large = {"text": os.urandom(600_000).hex()}
    ids = enqueue(platform, 40, kwargs=large)
    tokens = [(job, 0) for job in small + ids]
    came = {job.id: job for job in worker.claim(tokens)}
    assert {job.id for job in came.values() if job.args_json} == set(small)
    whole = worker.with_arguments(list(came.values()))
    assert [job.id for job in whole] == list(came)
    read = [job for job in whole if job.args_json and job.id not in small]
    assert len(read) == 16
    assert all(job.kwargs == large and job.args == [] for job in read)
    assert sum(not job.args_json for job in whole) == 24


def test_large_arguments_that_cannot_be_read_now_are_left_for_later(platform, worker, monkeypatch):
    def away(ids):
        raise Unavailable("not now")

    monkeypatch.setattr(worker.claims, "_arguments", away)
    taken = claimed(platform, worker, 3, kwargs={"text": os.urandom(20_000).hex()})
    assert [job.args_json for job in worker.with_arguments(taken)] == [""] * 3


def test_threads_that_claim_the_same_tokens_get_each_job_once(platform):
    ids = enqueue(platform, 200)
    tokens = [(job, 0) for job in ids]

    def take(turn):
        with execution(platform) as one:
            mine = tokens if turn % 2 else tokens[::-1]
            return [job.id for start in range(0, 200, 40) for job in one.claim(mine[start : start + 40])]

    taken = Counter(job for jobs_ in at_once(8, take) for job in jobs_)
    assert taken == Counter(ids)


def test_claims_without_tokens_and_with_them_do_not_take_a_job_twice(platform):
    ids = enqueue(platform, 100)

    def take(turn):
        with execution(platform) as one:
            if turn % 2:
                return [job.id for job in one.claim([(job, 0) for job in ids])]
            return [job.id for _ in range(10) for job in one.claim_oldest("reports", 10)]

    assert Counter(job for jobs_ in at_once(6, take) for job in jobs_) == Counter(ids)


def test_without_tokens_the_most_urgent_and_oldest_come_first(platform, worker):
    low, high = enqueue(platform, 2, priority=7), enqueue(platform, 2, priority=1)
    enqueue(platform, 1, queue="other")
    assert {job.id for job in worker.claim_oldest("reports", 2)} == set(high)
    assert {job.id for job in worker.claim_oldest("reports", 9)} == set(low)
    assert worker.claim_oldest("reports", 9) == []


@pytest.mark.parametrize("how", ["run out", "gone", "never there"])
def test_a_dead_lease_claims_nothing(platform, how):
    worker = new_id() if how == "never there" else lease(platform)
    (job,) = enqueue(platform)
    if how == "run out":
        run_out(platform, worker)
    elif how == "gone":
        platform.workers.end(worker, [])
    with execution(platform, worker) as dead:
        assert dead.claim([(job, 0)]) == []
        assert dead.claim_oldest("reports", 5) == []
    assert states(platform, [job]) == ["queued"]


def test_a_paused_queue_gives_nothing_until_it_is_resumed(platform, worker):
    paused, other = enqueue(platform)[0], enqueue(platform, queue="other")[0]
    platform.queues.pause("reports")
    tokens = [(paused, 0), (other, 0)]
    assert [job.id for job in worker.claim(tokens)] == [other]
    assert worker.claim_oldest("reports", 5) == []
    platform.queues.resume("reports")
    assert [job.id for job in worker.claim(tokens)] == [paused]


def test_tokens_that_no_longer_hold_are_dropped(platform, worker):
    queued, cancelled, later = enqueue(platform)[0], enqueue(platform)[0], enqueue(platform, delay="1h")[0]
    platform.control.cancel(cancelled)
    tokens = [(cancelled, 0), (later, 0), (new_id(), 0), (queued, 1), (queued, 0), (queued, 0)]
    assert [job.id for job in worker.claim(tokens)] == [queued]
    assert worker.claim(tokens) == worker.claim([]) == []


def test_a_job_ends_with_its_result_and_frees_nothing_twice(platform, worker):
    job = claimed(platform, worker)[0]
    end = Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, result=b'{"pages": 12}')
    first = worker.finish([end])
    assert first[job.id].state is JobState.SUCCEEDED
    done = platform.jobs.get(job.id)
    assert (done.result, done.errors) == ({"pages": 12}, [])
    assert done.finished_at >= done.started_at
    refused = STALE_WRITES.labels("flusher")._value.get()
    assert worker.finish([end]) == first
    assert platform.jobs.get(job.id) == done
    assert STALE_WRITES.labels("flusher")._value.get() == refused


@pytest.mark.parametrize("verb", [Verb.COMPLETE, Verb.RETRY, Verb.SNOOZE, Verb.FAIL, Verb.STOP])
def test_every_end_that_is_repeated_finds_its_own_result(platform, worker, verb):
    job = claimed(platform, worker)[0]
    delay = timedelta(hours=1) if verb in {Verb.RETRY, Verb.SNOOZE} else None
    first = worker.finish([Finish(job.id, job.epoch, job.claim_id, verb, delay=delay)])
    before = platform.jobs.get(job.id)
    assert worker.finish([Finish(job.id, job.epoch, job.claim_id, verb, delay=delay)]) == first
    assert platform.jobs.get(job.id) == before


def test_an_end_that_comes_after_the_rescue_is_refused_and_counted(platform, worker):
    late = claimed(platform, worker)[0]
    platform.workers.end(worker.worker, [])
    with execution(platform) as other:
        live = other.claim([(late.id, late.epoch + 1)])[0]
        before = platform.jobs.get(late.id)
        refused = STALE_WRITES.labels("flusher")._value.get()
        assert worker.finish([Finish(late.id, late.epoch, late.claim_id, Verb.COMPLETE, b"1")]) == {}
        assert STALE_WRITES.labels("flusher")._value.get() == refused + 1
        assert platform.jobs.get(late.id) == before
        assert other.finish([Finish(live.id, live.epoch, live.claim_id, Verb.COMPLETE, b"2")])
    assert worker.finish([Finish(late.id, late.epoch, late.claim_id, Verb.FAIL)]) == {}
    assert (platform.jobs.get(late.id).state, platform.jobs.get(late.id).result) == ("succeeded", 2)


def test_one_stale_end_does_not_hold_up_the_others(platform, worker):
    good, gone = claimed(platform, worker, 2)
    assert worker.hand_back([gone]) == 1
    ends = [Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE) for job in (gone, good)]
    assert set(worker.finish(ends)) == {good.id}


def test_a_retry_keeps_its_delay_and_a_snooze_gives_the_attempt_back(platform, worker):
    retried, snoozed = claimed(platform, worker, 2)
    worker.finish(
        [
            Finish(retried.id, retried.epoch, retried.claim_id, Verb.RETRY, delay=timedelta(minutes=5)),
            Finish(snoozed.id, snoozed.epoch, snoozed.claim_id, Verb.SNOOZE, delay=timedelta(minutes=5)),
        ]
    )
    one, two = platform.jobs.get_many([retried.id, snoozed.id])
    assert (one.state, one.attempt, two.state, two.attempt) == ("retrying", 1, "scheduled", 0)
    for job, before in ((one, retried), (two, snoozed)):
        assert timedelta(minutes=4) < job.run_at - before.started_at < timedelta(minutes=6)


def test_what_is_handed_back_has_its_attempt_again_and_runs_elsewhere(platform, worker):
    job = claimed(platform, worker)[0]
    assert worker.hand_back([job]) == 1
    assert worker.hand_back([job]) == worker.hand_back([]) == 0
    back = platform.jobs.get(job.id)
    assert (back.state, back.attempt, back.started_at, back.crash_count) == ("queued", 0, None, 0)
    assert platform.transport.pop(["reports"], 9, 0.1)[-1] == f"{job.id}:{job.epoch + 1}".encode()
    with execution(platform) as other:
        assert [taken.attempt for taken in other.claim([(job.id, job.epoch + 1)])] == [1]


def test_without_redis_it_is_handed_back_too(platform):
    with without_redis(platform) as lame, execution(lame) as worker:
        assert worker.hand_back(claimed(lame, worker, 3)) == 3
    assert count(platform) == 3


def test_what_was_asked_to_stop_before_it_began_is_cancelled_when_it_is_handed_back(platform, worker):
    job = claimed(platform, worker)[0]
    assert platform.control.cancel(job.id).state == "running"
    worker.hand_back([job])
    assert states(platform, [job.id]) == ["cancelled"]


def test_a_report_writes_progress_of_its_own_attempts_and_hears_what_should_stop(platform, worker):
    stale, asked, quiet = claimed(platform, worker, 3)
    worker.hand_back([stale])
    platform.control.cancel(asked.id)
    signals = worker.report(
        [Progress(job.id, job.epoch, job.claim_id, 0.5, "half") for job in (stale, asked, quiet)]
    )
    assert signals == [(asked.id, asked.epoch, False)]
    found = platform.jobs.get_many([stale.id, asked.id, quiet.id])
    assert [(job.progress, job.progress_note) for job in found] == [
        (None, None),
        (0.5, "half"),
        (0.5, "half"),
    ]
    assert worker.report([]) == [(asked.id, asked.epoch, False)]


def test_the_first_word_of_an_attempt_wipes_the_last_ones_progress(platform, worker):
    job = claimed(platform, worker)[0]
    worker.report([Progress(job.id, job.epoch, job.claim_id, 1.0, "nearly")])
    worker.finish([Finish(job.id, job.epoch, job.claim_id, Verb.RETRY, delay=timedelta(0))])
    with platform.database.transaction() as connection:
        assert len(feed_repository.stage(connection, 10)) == 1
    worker.claim([(job.id, job.epoch + 1)])
    again = platform.jobs.get(job.id)
    assert (again.progress, again.progress_note, again.attempt) == (None, None, 2)
