"""Waiting for a job's end: woken by its announcement, and never dependent on it."""

import threading
from datetime import timedelta

import pytest
import redis

from callboard.jobs.client import Client
from callboard.jobs.errors import NotFound, WaitTimeout
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.operate import waiting as module
from callboard.jobs.operate.waiting import Waiting
from callboard.jobs.platform import Platform
from tests.integration.core.factories import (
    at_once,
    claimed,
    enqueue,
    execution,
    put_job,
    run_sql,
    until,
    url_of,
    without_redis,
)  # fmt: skip

LONG = timedelta(seconds=30)


@pytest.fixture
def waiting(platform):
    made = Waiting(platform.jobs, platform.transport)
    yield made
    made.close()


def later(work):
    thread = threading.Timer(0.2, work)
    thread.start()
    return thread


def listening(waiting):
    """Until the subscription stands."""
    heard = threading.Event()
    with waiting.listen(new_id(), heard.set):
        until(heard.is_set)


def test_an_announcement_wakes_who_waits_long_before_he_would_look(platform, waiting, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 25.0)
    listening(waiting)
    with execution(platform) as worker:
        job = claimed(platform, worker)[0]

        def end():
            worker.finish([Finish(job.id, job.epoch, job.claim_id, Verb.COMPLETE, b"7")])
            platform.transport.announce([new_id(), job.id])

        thread = later(end)
        began = SYSTEM.monotonic()
        done = waiting.wait(job.id, LONG)
        thread.join()
    assert (done.state, done.result) == ("succeeded", 7)
    # Less than a look: it was the announcement.
    assert SYSTEM.monotonic() - began < 20


def test_a_job_that_is_over_is_answered_at_once(platform, waiting):
    with platform.database.transaction() as connection:
        job = put_job(connection, JobState.FAILED)
    assert waiting.wait(job.id, timedelta(0)).state == "failed"


def test_a_wait_that_takes_too_long_says_where_the_job_stands(platform, waiting):
    (job,) = enqueue(platform, delay="1h")
    with pytest.raises(WaitTimeout, match="is still scheduled"):
        waiting.wait(job, timedelta(milliseconds=50))
    with pytest.raises(WaitTimeout):
        waiting.wait(job, timedelta(0))


def test_nobody_waits_for_a_job_that_is_none(platform, waiting):
    with pytest.raises(NotFound):
        waiting.wait(new_id(), LONG)
    assert waiting._waiters == {}


def test_what_is_deleted_meanwhile_is_not_found(platform, waiting):
    (job,) = enqueue(platform)
    thread = later(lambda: run_sql(platform, "DELETE FROM callboard.jobs"))
    with pytest.raises(NotFound):
        waiting.wait(job, LONG)
    thread.join()


def test_an_end_that_nobody_announced_is_seen_at_the_next_look(platform, waiting):
    (job,) = enqueue(platform)
    thread = later(
        lambda: run_sql(platform, "UPDATE callboard.jobs SET state = 'failed', finished_at = now()")
    )
    assert waiting.wait(job, LONG).state == "failed"
    thread.join()


def test_without_redis_a_wait_ends_with_the_job(platform):
    with without_redis(platform) as lame:
        (job,) = enqueue(lame)
        thread = later(lambda: lame.control.cancel(job))
        assert lame.waiting.wait(job, LONG).state == "cancelled"
        thread.join()


def test_many_wait_over_one_subscription_and_leave_nothing_behind(platform, waiting):
    jobs = enqueue(platform, 5)
    thread = later(lambda: [platform.control.cancel(job) for job in jobs])
    assert {job.state for job in at_once(10, lambda turn: waiting.wait(jobs[turn % 5], LONG))} == {
        "cancelled"
    }
    thread.join()
    assert waiting._waiters == {}
    assert sum(alive.name == "callboard-waiting" for alive in threading.enumerate()) >= 1


def test_a_waiter_that_fails_does_not_leave_the_others_asleep(platform, waiting):
    heard = threading.Event()

    def fail():
        raise RuntimeError("gone")

    job = new_id()

    def announced():
        platform.transport.announce([job])
        return heard.wait(0.05)

    with waiting.listen(job, fail), waiting.listen(job, heard.set):
        until(announced)
        heard.clear()
        until(announced)


def test_the_subscription_comes_back_after_it_was_cut(platform, waiting, redis_url, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 25.0)
    listening(waiting)
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="pubsub")
    (job,) = enqueue(platform)
    heard = threading.Event()
    with waiting.listen(job, heard.set):

        def announced():
            platform.transport.announce([job])
            return heard.wait(0.05)

        until(announced)


def test_the_client_takes_a_timeout_as_people_write_it(platform, redis_url):
    with Client.over(Platform(url_of(platform), redis_url)) as client:
        job = client.enqueue("build_report", {}, unchecked=True)
        for timeout in ("50ms", 0.05, timedelta(milliseconds=50)):
            with pytest.raises(WaitTimeout):
                client.wait(job.id, timeout)
        client.cancel(str(job.id))
        assert client.wait(str(job.id)).state == "cancelled"
        assert client.retry(job.id).state == "queued"
