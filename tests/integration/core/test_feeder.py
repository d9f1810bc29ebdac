"""The feeder: what is queued in Postgres comes into Redis, whatever happened to Redis or to those who should
have pushed.
"""

import pytest
import redis

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.states import JobState
from callboard.jobs.redis.queue_tokens import read_token
from callboard.jobs.redis.transport import WINDOW
from callboard.scheduler import feeder as feeder_module
from callboard.scheduler.feeder import LAG, TOKENS_FED, Feeder
from callboard.scheduler.leader import Leader
from callboard.scheduler.listener import Listener
from tests.integration.core.factories import (
    FakeClock,
    at_once,
    backlog,
    enqueue,
    execution,
    put_job,
    run_sql,
    states,
    until,
    without_redis,
)  # fmt: skip


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def feeder(platform, clock):
    return Feeder(platform, clock)


@pytest.fixture
def cache(platform, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def popped(platform, queue="reports", count=WINDOW):
    return [read_token(raw) for raw in platform.transport.pop([queue], count, 0.01)]


def test_after_redis_lost_its_memory_everything_queued_is_fed_again_in_order(platform, feeder, cache):
    low, high = enqueue(platform, 3, priority=9), enqueue(platform, 3, priority=0)
    other = enqueue(platform, 1, queue="other")
    cache.flushdb()
    fed = TOKENS_FED.labels("reports")._value.get()
    assert feeder.round() == 7
    assert TOKENS_FED.labels("reports")._value.get() == fed + 6
    tokens = popped(platform)
    assert set(tokens[:3]) == {(str(job), 0) for job in high}
    assert set(tokens[3:]) == {(str(job), 0) for job in low}
    assert popped(platform, "other") == [(str(other[0]), 0)]


def test_what_is_there_is_not_fed_twice(platform, feeder):
    enqueue(platform, 5)
    assert feeder.round() == 0
    assert platform.transport.depth("reports") == 5


def test_a_token_that_was_popped_and_never_claimed_comes_again(platform, feeder):
    (job,) = enqueue(platform)
    assert popped(platform) == [(str(job), 0)]
    assert feeder.round() == 1
    with execution(platform) as worker:
        assert len(worker.claim(popped(platform))) == 1
    assert feeder.round() == 0


def test_what_is_due_is_staged_and_fed_and_the_rest_is_left(platform, feeder):
    with platform.database.transaction() as connection:
        due = [
            put_job(connection, state, expires_at=None, queue="due").id
            for state in (JobState.SCHEDULED, JobState.RETRYING)
        ]
        later = put_job(
            connection, JobState.SCHEDULED, run_at="2999-01-01T00:00:00Z", expires_at=None, queue="due"
        ).id
    enqueue(platform, 1, queue="due")
    feeder.round()
    assert states(platform, [*due, later]) == ["queued", "queued", "scheduled"]
    assert {(str(job), 5) for job in due} < set(popped(platform, "due"))


def test_what_is_staged_again_has_a_token_of_its_own(platform, feeder):
    (job,) = enqueue(platform, delay="1h")
    for epoch in (1, 2):
        run_sql(platform, "UPDATE callboard.jobs SET run_at = now(), state = 'scheduled'")
        feeder.round()
        assert (str(job), epoch) in popped(platform)


def test_what_has_expired_is_cancelled_and_announced(platform, feeder):
    with platform.database.transaction() as connection:
        gone = [
            put_job(connection, state).id
            for state in (JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING)
        ]
        running = put_job(connection, JobState.RUNNING).id
    ear, heard = platform.transport.announcements(), set()
    feeder.round()
    assert states(platform, [*gone, running]) == ["cancelled"] * 3 + ["running"]
    assert {job.progress_note for job in platform.jobs.get_many(gone)} == {"expired"}
    until(lambda: heard.update(ear.next(1.0)) or heard.issuperset(gone))
    assert running not in heard
    ear.close()


def test_a_paused_queue_is_not_fed_and_a_resumed_one_is(platform, feeder):
    enqueue(platform, 2)
    other = enqueue(platform, 2, queue="other")
    platform.queues.pause("reports")
    popped(platform, "other")
    assert feeder.round() == len(other)
    assert feeder.feed(["reports", "nowhere"]) == 0
    assert platform.transport.depth("reports") == 0
    platform.queues.resume("reports")
    assert feeder.feed(["reports"]) == 2


def test_a_long_backlog_fills_the_window_and_no_more(platform, feeder):
    backlog(platform, WINDOW + 1_500)
    assert feeder.round() == WINDOW
    assert feeder.round() == 0
    seen = set()
    with execution(platform) as worker:
        while tokens := popped(platform, count=1_000):
            seen |= {job.id for job in worker.claim(tokens)}
            feeder.round()
            assert platform.transport.depth("reports") <= WINDOW
    assert len(seen) == WINDOW + 1_500


def test_after_redis_lost_its_memory_rounds_follow_until_every_window_is_full(platform, feeder):
    queues = ["one", "two", "three"]
    for queue in queues:
        backlog(platform, WINDOW + 10, queue)
    assert feeder.round() < 2 * WINDOW
    assert feeder.work(platform.feed.look()) > WINDOW
    assert [platform.transport.depth(queue) for queue in queues] == [WINDOW] * 3
    assert feeder.work(platform.feed.look()) == 0


def test_a_feeder_that_is_never_finished_lets_its_caller_look_between(platform, feeder, cache, monkeypatch):
    monkeypatch.setattr(feeder_module, "_MOST_ROUNDS", 3)
    for queue in ("one", "two"):
        backlog(platform, WINDOW, queue)
    looks = []

    def look():
        looks.append(1)
        assert len(looks) < 50
        # Workers empty everything between two rounds.
        cache.flushdb()
        return found

    found = platform.feed.look()
    monkeypatch.setattr(feeder._service, "look", look)
    feeder.work(found)
    assert len(looks) == 3


def test_the_head_is_fed_however_full_the_set_is(platform, feeder):
    backlog(platform, WINDOW)
    feeder.round()
    urgent = enqueue(platform, 3, priority=0)
    assert platform.transport.depth("reports") == WINDOW
    assert feeder.round() == 3
    assert {job for job, _ in popped(platform, count=3)} == {str(job) for job in urgent}


def test_feeders_at_once_do_no_harm(platform, clock, cache):
    jobs = enqueue(platform, 300)
    late = enqueue(platform, 50, delay="1h")
    run_sql(platform, "UPDATE callboard.jobs SET run_at = now() WHERE state = 'scheduled'")
    cache.flushdb()
    at_once(3, lambda _: Feeder(platform, clock).round())
    with execution(platform) as worker:
        assert {job.id for job in worker.claim(popped(platform))} == {*jobs, *late}


def test_while_redis_is_away_jobs_are_staged_all_the_same_and_the_round_says_so(platform, clock):
    (job,) = enqueue(platform, delay="1h")
    run_sql(platform, "UPDATE callboard.jobs SET run_at = now()")
    with without_redis(platform) as lame:
        feeder = Feeder(lame, clock)
        clock.advance(7)
        with pytest.raises(Unavailable):
            feeder.round()
        assert LAG.collect()[0].samples[0].value == 7
    assert states(platform, [job]) == ["queued"]


def test_a_commit_in_somebodys_own_transaction_is_fed_at_once(platform, feeder):
    leader = Leader(platform.database)
    leader.check()
    assert leader.leads
    listener = Listener(platform.database, feeder, leader)
    listener.start()
    try:

        def fed():
            run_sql(platform, "SELECT callboard.enqueue('a', queue => 'heard', unchecked => true)")
            return platform.transport.depth("heard")

        assert until(fed) > 0
    finally:
        listener.stop()
        leader.resign()


def test_one_scheduler_leads_and_another_takes_over(platform):
    first, second = Leader(platform.database), Leader(platform.database)
    first.check()
    second.check()
    assert (first.leads, second.leads) == (True, False)
    first.check()
    first.resign()
    second.check()
    assert (first.leads, second.leads) == (False, True)
    second.resign()


def test_a_leader_whose_connection_is_killed_leads_no_more(platform):
    first, second = Leader(platform.database), Leader(platform.database)
    first.check()
    run_sql(
        platform,
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    first.check()
    assert not first.leads
    second.check()
    assert second.leads
    second.resign()
