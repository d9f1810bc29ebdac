"""The ticker: each nominal time is decided once, and its job and its row are one transaction."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from callboard.jobs.errors import Conflict, InvalidArguments, InvalidInput, NotFound, UnknownJob
from callboard.jobs.model.states import JobState
from callboard.jobs.schedules import repository
from callboard.jobs.schedules.manage import schedule_request
from tests.integration.core.factories import at_once, count, publish, put_job, run_sql, states

MINUTE = timedelta(minutes=1)


@pytest.fixture
def schedules(platform):
    publish(platform)
    return platform.schedules()


@pytest.fixture
def ticker(platform):
    return platform.ticker()


def make(schedules, name="nightly", **options):
    values = {
        "name": name,
        "job": "build_report",
        "kwargs": {"account_id": 7},
        "every": "1m",
        "overlap": "allow_all",
    }
    values |= options
    return schedules.create(
        schedule_request({key: value for key, value in values.items() if value is not None})
    )


def let_pass(platform, span, name="nightly"):
    """Let the schedule's next tick have been due for so long."""
    run_sql(
        platform,
        "UPDATE callboard.schedules SET next_fire_at = next_fire_at - d, created_at = created_at - d"
        " FROM (SELECT next_fire_at - now() + :span AS d FROM callboard.schedules WHERE name = :name) late"
        " WHERE name = :name",
        span=span,
        name=name,
    )


def results(schedules, name="nightly"):
    """What became of the ticks, oldest first."""
    return [tick.result for tick in reversed(schedules.ticks(name, 200))]


def test_a_schedule_that_is_not_due_does_not_tick(platform, schedules, ticker):
    made = make(schedules)
    assert MINUTE - timedelta(seconds=1) < made.next_fire_at - made.created_at <= MINUTE
    assert ticker.tick() == []
    assert (count(platform), results(schedules)) == (0, [])


def test_a_due_tick_makes_one_job_one_row_and_the_next_time(platform, schedules, ticker):
    made = make(schedules, priority=1, queue="own")
    let_pass(platform, timedelta(seconds=5))
    before = schedules.get("nightly")
    (tick,) = ticker.tick()
    assert (tick.result, tick.nominal_at, tick.schedule_id) == ("fired", before.next_fire_at, made.id)
    job = platform.jobs.get(tick.job_id)
    assert (job.name, job.kwargs, job.queue, job.priority) == ("build_report", {"account_id": 7}, "own", 1)
    assert (job.source, job.source_id, job.state) == ("schedule", "nightly", "queued")
    after = schedules.get("nightly")
    assert after.next_fire_at == before.next_fire_at + MINUTE
    assert (after.last_fire_at, after.last_job_id) == (tick.nominal_at, job.id)
    assert schedules.ticks("nightly") == [tick]
    assert ticker.tick() == []


def test_schedulers_at_once_fire_a_tick_once(platform, schedules, ticker):
    for number in range(10):
        make(schedules, f"cron{number}", every=None, cron="*/5 * * * *", timezone="Europe/Berlin")
        let_pass(platform, timedelta(seconds=1), f"cron{number}")
    ticks = [tick for decided in at_once(4, lambda _: platform.ticker().tick()) for tick in decided]
    assert [tick.result for tick in ticks] == ["fired"] * 10
    assert (
        len({tick.schedule_id for tick in ticks})
        == count(platform)
        == count(platform, "schedule_ticks")
        == 10
    )


def test_a_tick_that_was_decided_is_not_decided_again(platform, schedules, ticker):
    make(schedules)
    let_pass(platform, timedelta(seconds=5))
    (tick,) = ticker.tick()
    run_sql(platform, "UPDATE callboard.schedules SET next_fire_at = :at", at=tick.nominal_at)
    (again,) = ticker.tick()
    assert (again.result, again.reason) == ("skipped", "already decided")
    assert count(platform) == count(platform, "schedule_ticks") == 1


def test_the_latest_missed_tick_is_caught_up_and_the_others_are_recorded(platform, schedules, ticker):
    make(schedules)
    let_pass(platform, 5 * MINUTE + timedelta(seconds=30))
    due = schedules.get("nightly").next_fire_at
    ticks = ticker.tick()
    assert [tick.nominal_at for tick in ticks] == [due + number * MINUTE for number in range(6)]
    assert results(schedules) == ["missed"] * 5 + ["fired"]
    assert count(platform) == 1
    assert schedules.get("nightly").next_fire_at == due + 6 * MINUTE


def test_a_late_tick_within_the_window_is_caught_up(platform, schedules, ticker):
    make(schedules, every="1d")
    let_pass(platform, timedelta(minutes=50))
    (tick,) = ticker.tick()
    assert tick.result == "caught_up"
    assert platform.jobs.get(tick.job_id).state == "queued"


@pytest.mark.parametrize(
    ("options", "late", "result"),
    [
        ({}, timedelta(minutes=70), "missed"),
        ({"catchup_window": "2h"}, timedelta(minutes=70), "caught_up"),
        ({"catchup_window": "0s"}, timedelta(seconds=30), "fired"),
        ({"catchup": "none"}, timedelta(seconds=30), "fired"),
        ({"catchup": "none"}, timedelta(seconds=90), "missed"),
    ],
)
def test_how_late_a_tick_may_be_is_the_schedules_to_say(platform, schedules, ticker, options, late, result):
    make(schedules, every="1d", **options)
    let_pass(platform, late)
    assert [tick.result for tick in ticker.tick()] == [result]
    assert count(platform) == (result != "missed")
    assert schedules.get("nightly").next_fire_at > datetime.now(UTC)


def test_a_very_long_sleep_leaves_a_bounded_record_and_goes_on_from_now(platform, schedules, ticker):
    make(schedules, every="1s")
    let_pass(platform, timedelta(days=2))
    ticks = ticker.tick()
    assert len(ticks) == 101
    assert count(platform) <= 1
    assert schedules.get("nightly").next_fire_at > datetime.now(UTC) - timedelta(minutes=1)


@pytest.mark.parametrize("state", JobState)
def test_overlap_skips_a_tick_whose_predecessor_has_not_ended(platform, schedules, ticker, state):
    make(schedules, overlap="skip")
    with platform.database.transaction() as connection:
        last = put_job(connection, state).id
        connection.execute(text("UPDATE callboard.schedules SET last_job_id = :job"), {"job": last})
    let_pass(platform, timedelta(seconds=5))
    (tick,) = ticker.tick()
    if state.is_terminal:
        assert tick.result == "fired"
    else:
        assert (tick.result, tick.reason, tick.job_id) == ("skipped", f"job {last} is still {state}", None)
        assert schedules.get("nightly").last_job_id == last
    assert schedules.get("nightly").next_fire_at > tick.nominal_at


def test_a_predecessor_that_was_deleted_holds_nothing_up(platform, schedules, ticker):
    make(schedules, overlap="skip")
    for _ in range(2):
        let_pass(platform, timedelta(seconds=5))
        run_sql(platform, "DELETE FROM callboard.schedule_ticks")
        (tick,) = ticker.tick()
        assert tick.result == "fired"
        run_sql(platform, "DELETE FROM callboard.jobs")


def test_a_paused_schedule_does_not_tick_and_is_resumed_from_the_next_tick_on(platform, schedules, ticker):
    make(schedules)
    let_pass(platform, timedelta(minutes=3))
    paused = schedules.pause("nightly")
    assert (paused.next_fire_at, paused.paused_at is None) == (None, False)
    assert schedules.pause("nightly") == paused
    assert ticker.tick() == []
    resumed = schedules.resume("nightly")
    assert resumed.paused_at is None
    assert resumed.next_fire_at > datetime.now(UTC) - timedelta(seconds=5)
    assert schedules.resume("nightly") == resumed
    assert ticker.tick() == []


def test_a_single_time_ticks_once_and_never_again(platform, schedules, ticker):
    made = make(schedules, every=None, at="2999-01-01T00:00:00Z")
    assert made.next_fire_at == datetime(2999, 1, 1, tzinfo=UTC)
    run_sql(
        platform,
        "UPDATE callboard.schedules SET at = now() - interval '5s', next_fire_at = now() - interval '5s'",
    )
    assert [tick.result for tick in ticker.tick()] == ["fired"]
    assert schedules.get("nightly").next_fire_at is None
    assert ticker.tick() == []


def test_a_job_and_its_tick_are_there_together_or_not_at_all(platform, schedules, ticker, monkeypatch):
    make(schedules)
    let_pass(platform, timedelta(seconds=5))
    before = schedules.get("nightly")

    def crash(*args, **options):
        raise SystemExit("killed")

    for step in ("record", "advance"):
        monkeypatch.setattr(repository, step, crash)
        with pytest.raises(SystemExit):
            ticker.tick()
        monkeypatch.undo()
        assert count(platform) == count(platform, "schedule_ticks") == 0
        assert schedules.get("nightly") == before
    assert [tick.result for tick in ticker.tick()] == ["fired"]


def test_a_tick_fires_for_a_job_that_is_unknown_for_the_moment(platform, schedules, ticker):
    make(schedules)
    run_sql(platform, "DELETE FROM callboard.job_types")
    platform.catalogue.forget()
    let_pass(platform, timedelta(seconds=5))
    (tick,) = ticker.tick()
    assert states(platform, [tick.job_id]) == ["queued"]


def test_one_schedule_that_cannot_be_read_does_not_hold_up_the_others(platform, schedules, ticker):
    for name in ("spoiled", "nightly"):
        make(schedules, name)
        let_pass(platform, timedelta(seconds=5), name)
    run_sql(
        platform,
        "UPDATE callboard.schedules SET every = NULL, cron = '0 0 * * *', timezone = 'Mars/Olympus'"
        " WHERE name = 'spoiled'",
    )
    assert [tick.result for tick in ticker.tick()] == ["fired"]
    assert results(schedules) == ["fired"]


def test_a_deleted_schedule_takes_its_ticks_along_and_leaves_its_jobs(platform, schedules, ticker):
    make(schedules)
    let_pass(platform, timedelta(seconds=5))
    ticker.tick()
    schedules.delete("nightly")
    assert (count(platform), count(platform, "schedule_ticks"), schedules.every()) == (1, 0, [])
    for verb in (schedules.get, schedules.delete, schedules.pause, schedules.resume, schedules.ticks):
        with pytest.raises(NotFound):
            verb("nightly")


def test_what_makes_no_sense_is_refused_and_not_kept(platform, schedules):
    for options, error in (
        ({"cron": "* * * * *"}, InvalidInput), ({"every": None}, InvalidInput),
        ({"every": "0s"}, InvalidInput),
        ({"every": None, "cron": "61 * * * *"}, InvalidInput),
        ({"every": None, "at": "2020-01-01T00:00:00Z"}, InvalidInput),
        ({"timezone": "Mars/Olympus"}, InvalidInput), ({"name": "a b"}, InvalidInput),
        ({"job": "nope"}, UnknownJob),
        ({"kwargs": {"account_id": "x"}}, InvalidArguments), ({"overlap": "explode"}, InvalidInput),
        ({"priority": 10}, InvalidInput), ({"kwargs": {"account_id": 7, "month": "\0"}}, InvalidInput),
    ):  # fmt: skip
        with pytest.raises(error):
            make(schedules, **{"name": "bad", **options})
    assert schedules.every() == []
    make(schedules)
    with pytest.raises(Conflict, match="already"):
        make(schedules)
