"""Limits: what of a queue may start, decided by the feeder and held to by every claim."""

from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import text

from callboard.jobs.attempts.repository import claiming as repository
from callboard.jobs.client import Client
from callboard.jobs.errors import InvalidInput, Unavailable
from callboard.jobs.limits.grants import Grants
from callboard.jobs.metrics import GRANTS
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres import notices
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.gauges import Gauges
from tests.integration.core.factories import (
    FakeClock,
    at_once,
    count,
    enqueue,
    execution,
    put_job,
    run_out,
    states,
    until,
    without_redis,
)
from tests.integration.core.limit_steps import end, limit, started, tokens
from tests.samples import sample


def test_a_limited_queue_is_fed_only_as_far_as_its_concurrency_allows(platform, feeder, worker):
    limit(platform, concurrency=3)
    enqueue(platform, 10)
    assert platform.transport.depth("reports") == 0
    granted = GRANTS.labels("reports")._value.get()
    first = started(platform, feeder, worker)
    assert len(first) == 3
    assert GRANTS.labels("reports")._value.get() == granted + 3
    assert all(job.limited for job in first)
    assert started(platform, feeder, worker) == []
    end(worker, first[:2])
    assert len(started(platform, feeder, worker)) == 2


def test_a_job_of_a_limited_queue_cannot_start_without_a_grant(platform, feeder, worker):
    limit(platform, concurrency=1)
    jobs = enqueue(platform, 3)
    assert worker.claim([(job, 0) for job in jobs]) == []
    feeder.round()
    assert [job.id for job in worker.claim([(job, 0) for job in jobs])] == jobs[:1]


def test_a_token_that_is_lost_comes_again_without_a_second_grant(platform, feeder):
    limit(platform, concurrency=2)
    enqueue(platform, 5)
    feeder.round()
    lost = tokens(platform)
    assert len(lost) == 2
    feeder.round()
    assert set(tokens(platform)) == set(lost)
    assert count(platform, "grants") == 2


def test_without_redis_grants_are_made_and_claims_hold_to_them(platform, worker):
    limit(platform, concurrency=2)
    enqueue(platform, 5)
    with without_redis(platform) as lame:
        lost = Feeder(lame, FakeClock())
        with pytest.raises(Unavailable):
            lost.round()
        assert len(worker.claim_oldest("reports", 10)) == 2
        with suppress(Unavailable):
            lost.round()
        assert worker.claim_oldest("reports", 10) == []


def test_a_paused_limited_queue_starts_nothing_by_any_way(platform, feeder, worker):
    limit(platform, concurrency=2)
    jobs = enqueue(platform, 2)
    feeder.round()
    platform.queues.pause("reports")
    assert feeder.round() == 0
    assert worker.claim([(job, 0) for job in jobs]) == worker.claim_oldest("reports", 5) == []
    platform.queues.resume("reports")
    assert len(started(platform, feeder, worker)) == 2


def test_a_grant_that_was_not_used_gives_its_place_back(platform, feeder, worker):
    limit(platform, concurrency=1, rate="1/1h")
    first, second = enqueue(platform, 2)
    feeder.round()
    platform.control.cancel(first)
    assert [job.id for job in started(platform, feeder, worker)] == [second]


def test_grants_of_an_emptied_queue_are_taken_back(platform, feeder):
    limit(platform, concurrency=2)
    enqueue(platform, 3)
    feeder.round()
    assert platform.queues.get("reports").granted == 2
    platform.queues.purge("reports")
    feeder.round()
    assert platform.queues.get("reports").granted == count(platform, "grants") == 0


def test_what_a_dead_worker_held_is_free_again_and_its_own_job_needs_a_new_grant(platform, feeder):
    limit(platform, concurrency=2)
    enqueue(platform, 4)
    with execution(platform) as dead:
        held = started(platform, feeder, dead)
        run_out(platform, dead.worker)
        platform.workers.reap()
    with execution(platform) as alive:
        assert alive.claim([(job.id, job.epoch + 1) for job in held]) == []
        assert len(started(platform, feeder, alive)) == 2


def test_jobs_that_run_when_a_limit_is_set_count(platform, feeder, worker):
    enqueue(platform, 5)
    running = started(platform, feeder, worker)[:3]
    assert len(running) == 3
    enqueue(platform, 5)
    limit(platform, concurrency=6)
    assert len(started(platform, feeder, worker)) == 1


def test_a_limit_that_is_lowered_revokes_what_has_not_started(platform, feeder, worker):
    limit(platform, concurrency=5)
    jobs = enqueue(platform, 5)
    feeder.round()
    limit(platform, concurrency=1)
    assert worker.claim([(job, 0) for job in jobs]) == []
    assert len(started(platform, feeder, worker)) == 1


def test_a_limit_that_is_taken_away_lets_everything_start(platform, feeder, worker):
    limit(platform, concurrency=1)
    enqueue(platform, 5)
    feeder.round()
    limit(platform)
    assert count(platform, "grants") == 0
    assert len(started(platform, feeder, worker)) == 5
    assert count(platform, "grants") == 0


def test_a_claim_under_way_counts_under_the_limits_that_are_set_meanwhile(platform, feeder, worker):
    """The claim has looked, and not committed, when the limit is set; the next round waits for it."""
    jobs = enqueue(platform, 3)
    with execution(platform) as slow, platform.database.engine.connect() as open_:
        assert len(repository.claim(open_, slow.worker, new_id(), [(jobs[0], 0)])) == 1
        limit(platform, concurrency=1)

        def act(turn):
            if turn:
                until(lambda: waits_for_grants(platform))
                open_.commit()
                return 0
            return feeder.round()

        at_once(2, act)
    assert worker.claim([(job, 0) for job in jobs]) == []
    assert count(platform, "grants") == 0


def waits_for_grants(platform):
    with platform.database.autocommit() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'callboard.grants'::regclass"
        )
        return connection.execute(waiting).scalar_one() > 0


def test_feeders_at_once_never_grant_more_than_there_is(platform, feeder):
    limit(platform, concurrency=7, rate="20/1h")
    enqueue(platform, 100)
    at_once(4, lambda _: [Grants(platform.database).make("reports") for _ in range(5)])
    assert count(platform, "grants") == 7


def test_a_claim_of_a_limited_queue_waits_for_the_disk_and_no_other_does(platform, worker):
    limit(platform, concurrency=5)
    held = enqueue(platform, 1)
    free = enqueue(platform, 1, queue="free")
    Grants(platform.database).make("reports")
    for job, durable in ((held[0], "on"), (free[0], "off")):
        with platform.database.transaction() as connection:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            assert len(repository.claim(connection, worker.worker, new_id(), [(job, 0)])) == 1
            assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == durable


def test_the_feeder_is_told_of_every_job_that_only_it_can_start(platform, worker):
    limit(platform, concurrency=5)
    enqueue(platform, queue="free")
    with platform.database.autocommit() as ear:
        notices.listen(ear)

        def told():
            return "reports" in notices.heard(ear, 1.0)

        (job,) = enqueue(platform)
        assert until(told)
        enqueue(platform, queue="free")
        assert notices.heard(ear, 0.05) == set()
        worker.notify_freed({"reports"})
        assert until(told)
        platform.control.cancel(job)
        platform.control.rerun(job)
        assert until(told)
        assert platform.transport.depth("reports") == 0
        ear.invalidate()


def test_limits_are_shown_with_what_is_taken_of_them(platform, feeder, worker):
    limit(platform, concurrency=3, rate="5/1h", key_concurrency=2, key_rate="9/1d")
    enqueue(platform, 9)
    feeder.round()
    worker.claim(tokens(platform)[:2])
    queue = platform.queues.get("reports")
    assert (queue.running, queue.granted, queue.started) == (2, 1, 2)
    assert queue.limits == Limits.read(concurrency=3, rate="5/1h", key_concurrency=2, key_rate="9/1d")
    assert platform.queues.every() == [queue]


def test_some_limits_are_changed_and_the_others_stay(platform):
    limit(platform, "new", concurrency=3, rate="5/1h")
    changed = platform.queues.limit("new", lambda now: replace(now, rate=None, key_concurrency=2))
    assert changed.limits == Limits(3, None, 2, None)


@pytest.mark.parametrize("name", ["", "1st", "a b", "x" * 101, "nul\0"])
def test_a_queue_with_an_impossible_name_is_not_made(platform, name):
    with pytest.raises(InvalidInput, match="queue"):
        limit(platform, name, concurrency=1)
    assert count(platform, "queues") == 0


def test_a_hand_back_frees_the_place_and_the_job_needs_a_new_grant(platform, feeder, worker):
    limit(platform, concurrency=1)
    (job,) = enqueue(platform)
    (held,) = started(platform, feeder, worker)
    worker.hand_back([held])
    assert worker.claim([(job, held.epoch + 1)]) == []
    assert states(platform, [job]) == ["queued"]
    assert [one.id for one in started(platform, feeder, worker)] == [job]


def test_jobs_that_run_in_another_queue_count_nothing(platform, feeder, worker):
    limit(platform, concurrency=1)
    with platform.database.transaction() as connection:
        put_job(connection, JobState.RUNNING, queue="other")
    enqueue(platform, 2)
    assert len(started(platform, feeder, worker)) == 1


def test_a_program_sets_limits_through_the_client(platform):
    client = Client.over(platform)
    client.limit_queue("mail", concurrency=3, rate="100/1m")
    assert platform.queues.get("mail").limits == Limits.read(concurrency=3, rate="100/1m")
    client.limit_queue("mail")
    assert not platform.queues.get("mail").limits.any
    with pytest.raises(InvalidInput, match="rate"):
        client.limit_queue("mail", rate="often")


def test_what_is_granted_is_gauged_by_queue(platform, feeder):
    limit(platform, concurrency=2)
    enqueue(platform, 3)
    feeder.round()
    Gauges(platform.queues).round()
    assert sample("callboard_queue_granted", queue="reports") == 2
    limit(platform)
    gauges = Gauges(platform.queues)
    gauges.round()
    assert sample("callboard_queue_granted", queue="reports") == 0
    gauges.clear()
