"""A platform that has nothing to do is quiet: what its loops ask is counted, statement by statement and
command by command.
"""

from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace

import pytest
import redis
from sqlalchemy import text

from callboard.config.embedded import EmbeddedServers
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.platform import Platform
from callboard.jobs.redis.transport import WAKE
from callboard.jobs.retention.retention import RetentionSpans
from callboard.scheduler.database_clock import DatabaseClock
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.gauges import Gauges
from callboard.scheduler.leader import Leader
from callboard.scheduler.pruner import Pruner
from callboard.scheduler.reaper import Reaper
from callboard.scheduler.watch import LOOK_EVERY, Watch
from callboard.workers.fetch.job_source import QueueOrder, TokenSource
from tests.integration.core.factories import (
    FakeClock,
    backlog,
    enqueue,
    execution,
    lease,
    put_job,
    run_out,
    run_sql,
    statements,
    until,
    url_of,
    without_redis,
)
from tests.samples import sample


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(scope="module")
def redis_alone(tmp_path_factory):
    """A Valkey that nobody else asks: it counts commands for all who do."""
    embedded = EmbeddedServers(tmp_path_factory.mktemp("valkey"), durable=False)
    yield embedded.ensure(postgres=False, valkey=True).redis_url
    embedded.stop()


@pytest.fixture
def platform(platform, redis_alone):
    with redis.Redis.from_url(redis_alone) as client:
        client.flushdb()
    with closing(Platform(url_of(platform), redis_alone)) as made:
        yield made


@pytest.fixture
def cache(platform, redis_alone):
    with redis.Redis.from_url(redis_alone) as client:
        yield client


@pytest.fixture
def watch(platform, clock):
    """A leader's watch; what it would have done lies in `started`, by name, until it is called."""
    leader, started = Leader(platform.database), {}
    leader.check()
    feeder = Feeder(platform, clock)
    ahead = []
    made = Watch(
        leader, feeder, Reaper(platform.workers, clock), lambda: None, started.__setitem__,
        look=platform.feed.look_as_leader, clock=DatabaseClock(clock), realign=lambda: None, on_ahead=ahead.append,
    )  # fmt: skip
    made.look()
    # a new leader corrects what the database's clock may have done before
    assert started.pop("realign")
    yield SimpleNamespace(look=made.look, started=started, leader=leader, feeder=feeder, ahead=ahead)
    leader.resign()


def known_queues(platform):
    run_sql(platform, "INSERT INTO callboard.queues (name) VALUES ('mail'), ('reports'), ('sync')")
    platform.queues.limit("sync", Limits.read(concurrency=2))


def commands(cache):
    """How many commands of each kind Redis has had, but for those that ask this."""
    return {name: told["calls"] for name, told in cache.info("commandstats").items() if "info" not in name}


# ---- the scheduler
# ------------------------------------------------------------------------------------------------


def test_a_look_of_an_idle_leader_is_one_statement_and_no_command(platform, cache, watch):
    known_queues(platform)
    lease(platform)
    before = commands(cache)
    with statements(platform) as told:
        assert watch.look() == LOOK_EVERY
    assert len(told) == 1
    assert watch.started == {}
    assert commands(cache) == before


def test_an_idle_round_of_the_feeder_is_one_statement_and_no_command(platform, cache):
    known_queues(platform)
    feeder = Feeder(platform, SYSTEM)
    enqueue(platform, delay="1h")
    before = commands(cache)
    with statements(platform) as told:
        assert feeder.round() == 0
    assert len(told) == 1
    assert commands(cache) == before


def test_a_round_is_two_statements_however_many_queues_have_jobs_and_asks_redis_of_those_alone(
    platform, cache
):
    known_queues(platform)
    for number in range(7):
        enqueue(platform, 3, queue=f"q{number}")
    feeder = Feeder(platform, SYSTEM)
    feeder.round()
    before = commands(cache)
    with statements(platform) as told:
        assert feeder.round() == 0
    assert len(told) == 2
    assert commands(cache) == before | {name: before[name] + 7 for name in ("cmdstat_zadd", "cmdstat_zcard")}


def test_what_there_is_to_do_is_started_and_nothing_else(platform, watch):
    worker = lease(platform)
    enqueue(platform)
    watch.look()
    assert set(watch.started) == {"feed"}
    run_sql(platform, "DELETE FROM callboard.jobs")
    watch.started.clear()
    run_sql(
        platform,
        "INSERT INTO callboard.schedules (id, name, job, every, next_fire_at) VALUES (gen_random_uuid(), 's', 'a', '1h', now())",
    )
    run_out(platform, worker)
    watch.look()
    # nobody is judged before the database has been well for a whole lease
    assert set(watch.started) == {"tick"}


def test_a_dead_worker_is_judged_once_the_database_has_been_well_for_a_lease(platform, clock, watch):
    run_out(platform, lease(platform))
    for _ in range(31):
        watch.look()
        assert "reap" not in watch.started
        clock.advance(0.97)
    watch.look()
    assert watch.started["reap"]() == 0
    assert platform.workers.live() == []


def test_a_look_that_fails_ends_leadership_and_has_the_reaper_wait_anew(platform, clock, watch):
    run_out(platform, lease(platform))
    for _ in range(32):
        watch.look()
        clock.advance(1)
    run_sql(
        platform,
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    with pytest.raises(Unavailable):
        watch.look()
    assert not watch.leader.leads
    watch.started.clear()
    watch.leader.check()
    watch.look()
    assert "reap" not in watch.started


def test_a_look_whose_statement_is_refused_keeps_leadership_and_the_reaper_goes_on(platform, clock, watch):
    run_out(platform, lease(platform))
    for _ in range(31):
        watch.look()
        clock.advance(0.97)
    watch.leader.ask(lambda held: held.ask(lambda to: to.execute(text("SET lock_timeout = '20ms'"))))
    with platform.database.transaction() as other:
        other.execute(text("LOCK TABLE callboard.jobs"))
        with pytest.raises(Busy, match="lock_timeout"):
            watch.look()
    assert watch.leader.leads
    watch.look()
    assert "reap" in watch.started


def test_who_stands_by_looks_at_nothing(platform, watch):
    enqueue(platform)
    watch.leader.resign()
    with statements(platform) as told:
        assert watch.look() == LOOK_EVERY
    assert told == []
    assert watch.started == {}


def test_the_next_look_comes_when_the_next_job_or_schedule_is_due(platform, watch):
    (job,) = enqueue(platform, delay="1h")
    assert watch.look() == LOOK_EVERY

    def looks_when_it_is_due():
        run_sql(platform, "UPDATE callboard.jobs SET run_at = now() + interval '200ms'")
        return 0.1 <= watch.look() <= 0.2

    until(looks_when_it_is_due)
    run_sql(platform, "UPDATE callboard.jobs SET run_at = now()")
    assert watch.look() == 0.1
    assert watch.started["feed"]() == 1
    assert platform.jobs.get(job).state == "queued"


def test_while_jobs_leave_redis_fast_the_next_look_comes_soon(platform, watch):
    backlog(platform, 600)
    watch.look()
    assert watch.started.pop("feed")() == 600
    assert watch.look() == 0.1
    assert watch.started.pop("feed")() == 0
    assert watch.look() == LOOK_EVERY


def test_a_round_bounds_what_it_brings_and_the_next_go_on(platform):
    for queue in ("a", "b", "c"):
        backlog(platform, 6_000, queue)
    feeder = Feeder(platform, SYSTEM)
    brought = [feeder.round() for _ in range(4)]
    assert max(brought) <= 6_000 + 3 * 50
    assert sum(brought) == 15_000
    assert feeder.round() == 0
    assert [platform.transport.depth(queue) for queue in ("a", "b", "c")] == [5_000] * 3


def test_pruning_nothing_is_a_statement_for_each_kind(platform):
    pruner = Pruner(platform.retention, RetentionSpans(succeeded=timedelta(days=7), other=timedelta(days=30)))
    with statements(platform) as told:
        pruner.round()
    assert len(told) == 9


# ---- gauges
# -------------------------------------------------------------------------------------------------------


def test_gauges_are_two_statements_and_rest_for_twenty_times_as_long_as_it_took(platform, clock):
    enqueue(platform, 3)
    with platform.database.transaction() as connection:
        put_job(connection, "running")
    lease(platform)
    gauges = Gauges(platform.queues, clock)
    clock.monotonic = iter([0.0, 2.0, 2.0, 41.9, 42.1, 42.2, 42.2]).__next__
    with statements(platform) as told:
        gauges.round()
    assert len(told) == 2
    assert sample("callboard_queue_jobs", queue="reports", state="queued") == 3
    assert sample("callboard_queue_jobs", queue="reports", state="running") == 1
    assert sample("callboard_workers", queue="reports") == 1
    assert sample("callboard_queue_oldest_seconds", queue="reports") > 0
    with statements(platform) as told:
        gauges.round()
    assert told == []
    with statements(platform) as told:
        gauges.round()
    assert len(told) == 2
    gauges.clear()


# ---- a worker child
# -----------------------------------------------------------------------------------------------


class Room:
    """Slots that are all free."""

    def free(self, kind):
        return 64

    def idle_threads(self):
        return 8

    def ends_fast(self, kind):
        return False


def test_an_idle_child_asks_postgres_one_thing_every_two_seconds(platform, clock):
    known_queues(platform)
    with execution(platform) as worker:
        queues = QueueOrder(worker, [], {}, clock)
        hints = TokenSource(queues, platform.transport, worker.worker)
        with statements(platform) as told:
            for _ in range(20):
                names, everywhere = queues.with_room(Room())
                if hints.pop(list(names), list(names.values()), 0.01) is None:
                    assert hints.worth_asking(list(names)) == []
                    hints.asked(0, everywhere=everywhere)
                clock.advance(1)
        assert list(names) == ["mail", "reports", "sync"]
        assert len(told) == 10


def test_a_child_hears_of_a_new_queue_and_of_a_new_limit_with_its_next_pop(platform, clock):
    feeder = Feeder(platform, SYSTEM)
    with execution(platform) as worker:
        queues = QueueOrder(worker, [], {}, clock)
        hints = TokenSource(queues, platform.transport, worker.worker)
        queues.read()
        assert not queues.any()
        enqueue(platform, queue="new")
        feeder.round()
        assert hints.pop(["other"], [64], 0.01) == []
        assert queues.with_room(Room()) == ({"new": 64}, True)
        feeder.round()
        assert hints.pop(["other"], [64], 0.01) == []
        platform.queues.limit("new", Limits.read(concurrency=1))
        feeder.round()
        assert platform.transport.pop(["other"], 64, 0.01, worker=worker.worker) == [WAKE]
        feeder.round()
        hints.pop(["other"], [64], 0.01)


def test_a_wake_up_goes_to_each_worker_with_a_lease_and_is_forgotten_soon(platform, cache):
    first, second, gone = lease(platform), lease(platform), lease(platform)
    run_out(platform, gone)
    enqueue(platform)
    Feeder(platform, SYSTEM).round()
    keys = {platform.transport.wake_key(worker) for worker in (first, second)}
    assert {key.decode() for key in cache.keys("*:wake:*")} == keys
    assert all(0 < cache.pttl(key) <= 10_000 for key in keys)


def test_a_child_that_nobody_wakes_finds_a_new_queue_by_itself(platform, clock):
    with without_redis(platform) as lame, execution(lame) as worker:
        queues = QueueOrder(worker, [], {}, clock)
        queues.read()
        enqueue(lame, queue="new")
        assert queues.with_room(Room())[0] == {}
        clock.advance(2.5)
        assert queues.with_room(Room())[0].keys() == {"new"}


def test_postgres_is_not_asked_for_claims_of_what_cannot_start(platform, clock):
    enqueue(platform, queue="paused")
    enqueue(platform, queue="limited")
    platform.queues.pause("paused")
    platform.queues.limit("limited", Limits.read(concurrency=1))
    with execution(platform) as worker:
        queues = QueueOrder(worker, [], {}, clock)
        queues.read()
        assert queues.ready == set()
        Feeder(platform, SYSTEM).round()
        queues.read()
        assert queues.ready == {"limited"}
