"""The database's clock jumps: schedules, leases and rates recover, nothing fires twice, no living worker is
reaped.
"""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from callboard.jobs.retention.retention import RetentionSpans
from callboard.jobs.schedules.manage import schedule_request
from callboard.scheduler.database_clock import DatabaseClock
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.leader import Leader
from callboard.scheduler.pruner import Pruner
from callboard.scheduler.reaper import Reaper
from callboard.scheduler.watch import Watch
from tests.integration.core.factories import (
    FakeClock,
    count,
    enqueue,
    lease,
    put_job,
    run_out,
    run_sql,
    until,
)
from tests.integration.core.limit_steps import age, limit, started

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def watch(platform, clock):
    """A leader's watch, the work that it started by name, and a database whose clock the test moves."""
    leader, started, ahead = Leader(platform.database), {}, []
    leader.check()
    database_clock = DatabaseClock(clock)
    made = Watch(
        leader, Feeder(platform, clock), Reaper(platform.workers, clock), lambda: None, started.__setitem__,
        look=platform.feed.look_as_leader, clock=database_clock, realign=lambda: None, on_ahead=ahead.append,
    )  # fmt: skip
    told, jumped = database_clock.told, [timedelta(0)]
    database_clock.told = lambda at: told(at + jumped[0])
    yield SimpleNamespace(look=made.look, started=started, ahead=ahead, leader=leader, jumped=jumped)
    leader.resign()


def let_be_well(watch, clock):
    """Look until the reaper may judge."""
    for _ in range(40):
        watch.look()
        clock.advance(0.9)
        watch.jumped[0] += timedelta(seconds=0.9)
    watch.started.clear()


# ---- the watch
# ------------------------------------------------------------------------------------------------


def test_after_a_jump_ahead_no_worker_is_judged_for_a_whole_lease(platform, clock, watch):
    let_be_well(watch, clock)
    run_out(platform, lease(platform))
    watch.jumped[0] += HOUR
    watch.look()
    assert "reap" not in watch.started
    assert [round(jump / HOUR, 2) for jump in watch.ahead] == [1]
    let_be_well(watch, clock)
    watch.look()
    assert "reap" in watch.started


def test_after_a_jump_back_times_are_realigned(clock, watch):
    watch.look()
    assert watch.started.pop("realign")
    watch.look()
    assert watch.started == {}
    watch.jumped[0] -= HOUR
    watch.look()
    assert set(watch.started) == {"realign"}
    assert watch.ahead == []


def test_a_scheduler_that_leads_anew_realigns(watch):
    watch.look()
    watch.started.clear()
    watch.leader.resign()
    watch.look()
    assert watch.started == {}
    until(lambda: watch.leader.check() or watch.leader.leads)
    watch.look()
    assert set(watch.started) == {"realign"}


# ---- leases
# ------------------------------------------------------------------------------------------------


def test_a_lease_that_lasts_too_long_is_shortened_and_a_usual_one_is_left(platform):
    usual, long_ = lease(platform), lease(platform)
    run_sql(
        platform,
        "UPDATE callboard.workers SET lease_expires_at = now() + interval '10 years' WHERE id = :id",
        id=long_,
    )
    before = {worker.id: worker.lease_expires_at for worker in platform.workers.live()}
    assert platform.workers.shorten() == 1
    after = {worker.id: worker.lease_expires_at for worker in platform.workers.live()}
    assert after[usual] == before[usual]
    assert timedelta(0) < after[long_] - after[usual] < MINUTE


# ---- grants
# ------------------------------------------------------------------------------------------------


def test_a_rate_goes_on_after_one_period_when_the_clock_was_set_back(platform, feeder, worker):
    limit(platform, rate="2/1h")
    enqueue(platform, 4)
    running = started(platform, feeder, worker)
    run_sql(
        platform,
        "UPDATE callboard.grants SET granted_at = granted_at + interval '1 day',"
        " started_at = started_at + interval '1 day'",
    )
    assert len(running) == platform.grants.realign() == 2
    age(platform, 3_599)
    assert started(platform, feeder, worker) == []
    age(platform, 1)
    assert len(started(platform, feeder, worker)) == 2
    assert platform.grants.realign() == 0


# ---- schedules
# ------------------------------------------------------------------------------------------------


def make(platform, **rule):
    request = {"name": "beat", "job": "build_report", "overlap": "allow_all", "unchecked": True, **rule}
    return platform.schedules().create(schedule_request(request))


def set_back(platform, span):
    """Move what is stored into the future, as it is after the database's clock was set back."""
    run_sql(
        platform,
        "UPDATE callboard.schedules SET next_fire_at = next_fire_at + CAST(:span AS interval)",
        span=span,
    )


@pytest.mark.parametrize("span", [HOUR, timedelta(days=3653)])
@pytest.mark.parametrize("rule", [{"every": "1m"}, {"cron": "* * * * *"}])
def test_a_schedule_whose_next_tick_is_too_late_is_realigned(platform, rule, span):
    made = make(platform, **rule)
    set_back(platform, span)
    assert platform.ticker().realign() == 1
    next_fire_at = platform.schedules().get("beat").next_fire_at
    assert made.next_fire_at <= next_fire_at <= made.next_fire_at + MINUTE
    assert platform.ticker().realign() == 0


def test_realigning_leaves_a_paused_schedule_and_one_that_is_due(platform):
    make(platform, every="1m")
    platform.schedules().pause("beat")
    assert platform.ticker().realign() == 0
    platform.schedules().resume("beat")
    run_sql(platform, "UPDATE callboard.schedules SET next_fire_at = now() - interval '1 second'")
    due = platform.schedules().get("beat").next_fire_at
    assert platform.ticker().realign() == 0
    assert platform.schedules().get("beat").next_fire_at == due


def test_all_schedules_are_realigned_however_many(platform):
    for number in range(205):
        make(platform, name=f"beat{number}", every="1m")
    set_back(platform, HOUR)
    assert platform.ticker().realign() == 205


def tick_at(platform, nominal):
    run_sql(platform, "UPDATE callboard.schedules SET next_fire_at = :at", at=nominal)
    return platform.ticker().tick()[-1]


def test_a_time_that_was_missed_by_a_wrong_clock_fires_once_when_it_comes(platform):
    schedule = make(platform, every="1s")
    nominal = schedule.created_at
    run_sql(
        platform,
        "INSERT INTO callboard.schedule_ticks (schedule_id, nominal_at, result, reason)"
        " VALUES (:id, :at, 'missed', 'a later tick replaced it')",
        id=schedule.id,
        at=nominal,
    )
    run_sql(platform, "UPDATE callboard.schedules SET every = '1 day'")
    first, second = tick_at(platform, nominal), tick_at(platform, nominal)
    assert (first.result, second.result, second.reason) == ("fired", "skipped", "already decided")
    assert count(platform) == 1
    (stored,) = platform.schedules().ticks("beat")
    assert (stored.result, stored.reason, stored.job_id) == ("fired", None, first.job_id)


def test_a_single_time_that_fired_early_does_not_fire_again_and_one_that_was_missed_does(platform):
    with platform.database.autocommit() as connection:
        at = connection.execute(text("SELECT now() + interval '1 hour'")).scalar_one()
    for name, result, job in (("done", "fired", "gen_random_uuid()"), ("late", "missed", "NULL")):
        schedule = make(platform, name=name, at=at)
        run_sql(
            platform,
            "INSERT INTO callboard.schedule_ticks (schedule_id, nominal_at, result, job_id)"
            f" VALUES (:id, :at, :result, {job})",
            id=schedule.id, at=at, result=result,
        )  # fmt: skip
    run_sql(platform, "UPDATE callboard.schedules SET next_fire_at = NULL")
    assert platform.ticker().realign() == 2
    # the hour passes
    run_sql(platform, "UPDATE callboard.schedule_ticks SET nominal_at = now() - interval '1 second'")
    run_sql(
        platform,
        "UPDATE callboard.schedules s SET at = t.nominal_at, next_fire_at = t.nominal_at"
        " FROM callboard.schedule_ticks t WHERE t.schedule_id = s.id",
    )
    assert sorted(tick.result for tick in platform.ticker().tick()) == ["fired", "skipped"]
    assert count(platform) == 1


# ---- the pruner
# ------------------------------------------------------------------------------------------------


def test_nothing_is_deleted_for_an_hour_after_a_jump_ahead(platform, clock):
    with platform.database.transaction() as connection:
        put_job(connection, "succeeded")
    pruner = Pruner(
        platform.retention, RetentionSpans(succeeded=timedelta(days=7), other=timedelta(days=7)), clock
    )
    run_sql(platform, "UPDATE callboard.jobs SET finished_at = now() - interval '10 years'")
    pruner.on_jump(timedelta(days=3653))
    pruner.round()
    clock.advance(3599)
    pruner.round()
    assert count(platform) == 1
    clock.advance(1)
    pruner.round()
    assert count(platform) == 0


def test_a_small_jump_does_not_pause_the_pruner(platform, clock):
    with platform.database.transaction() as connection:
        put_job(connection, "succeeded")
    run_sql(platform, "UPDATE callboard.jobs SET finished_at = now() - interval '10 years'")
    pruner = Pruner(
        platform.retention, RetentionSpans(succeeded=timedelta(days=7), other=timedelta(days=7)), clock
    )
    pruner.on_jump(timedelta(seconds=59))
    pruner.round()
    assert count(platform) == 0
