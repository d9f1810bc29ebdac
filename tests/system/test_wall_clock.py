"""The wall clock jumps: of a scheduler, of a worker, of the database. Everything goes on within seconds, and
nothing fires twice.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import psutil
import pytest
from sqlalchemy import text

from callboard.config.settings import sqlalchemy_url
from callboard.jobs.platform import Platform
from callboard.jobs.schedules.manage import schedule_request
from tests.e2e.stage import Process, Stage, staged, until
from tests.system.debian_servers import debian_servers
from tests.system.wall_clock import WallClock, wall_clock

HOUR = timedelta(hours=1)
JUMPS = {"an_hour_back": -HOUR, "an_hour_ahead": HOUR, "ten_years_ahead": timedelta(days=3653)}
#: How soon what is due must happen after a jump. Seconds.
SOON = 15.0
_MEBIBYTE = 1024 * 1024


@pytest.fixture
def stage(platform: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    with staged(platform, database_url, redis_url) as made:
        yield made


@pytest.fixture
def clock() -> Iterator[WallClock]:
    with wall_clock() as made:
        yield made


def every_second(stage: Stage) -> None:
    request = schedule_request({"name": "beat", "job": "ledger", "kwargs": {"n": 1}, "every": "1s"})
    stage.platform.schedules().create(request)


def fired(stage: Stage) -> int:
    """How many ticks have a job."""
    return sum(tick.job_id is not None for tick in stage.platform.schedules().ticks("beat", 1000))


def check_nothing_fired_twice(stage: Stage) -> None:
    statement = text(
        "SELECT count(*), count(DISTINCT t.nominal_at) FROM callboard.jobs j"
        " LEFT JOIN callboard.schedule_ticks t ON t.job_id = j.id WHERE j.source = 'schedule'"
    )
    with stage.platform.database.autocommit() as connection:
        jobs, ticks = connection.execute(statement).one()
    assert jobs == ticks


def memory(process: Process) -> float:
    own = psutil.Process(process.pid)
    # A worker may have started a lone child meanwhile, for the job of the one that was killed.
    largest = max((child.memory_info().rss for child in own.children()), default=0)
    return (own.memory_info().rss + largest) / _MEBIBYTE


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_a_jump_of_the_wall_clock_stops_nothing(
    stage: Stage, clock: WallClock, role: str, jump: timedelta
) -> None:
    moved = {"extra": clock.environment}
    scheduler = stage.start("scheduler", lease_ttl="3s", **moved if role == "scheduler" else {})
    doomed = stage.worker(queues="default", lease_ttl="3s")
    flag = stage.folder / "flag"
    held = stage.enqueue("until_there", path=str(flag))
    stage.wait_started(1)
    worker = stage.worker(queues="default", lease_ttl="3s", **moved if role == "worker" else {})
    every_second(stage)
    until(lambda: fired(stage) >= 2)
    before = stage.enqueue_with("swallows", {"text": "before"}, delay="2s")
    used = memory(scheduler) + memory(worker)

    clock.jump(jump)
    doomed.kill_all()
    after = stage.enqueue_with("swallows", {"text": "after"}, delay="2s")
    until(lambda: stage.job(before).state == stage.job(after).state == "succeeded", SOON)
    at_jump = fired(stage)
    until(lambda: fired(stage) >= at_jump + 3, SOON)
    until(lambda: stage.starts()[str(held)] == 2, SOON)
    flag.touch()
    until(lambda: stage.job(held).state == "succeeded", SOON)

    clock.jump(timedelta())
    at_return = fired(stage)
    until(lambda: fired(stage) >= at_return + 3, SOON)
    check_nothing_fired_twice(stage)
    assert scheduler.alive
    assert worker.alive
    assert memory(scheduler) + memory(worker) < used + 50


# ---- the database's clock
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def on_database(clock: WallClock) -> Iterator[Stage]:
    """A stage over a Postgres whose clock the test moves."""
    with debian_servers(clock.environment) as servers:
        urls = servers.urls
        with closing(Platform(sqlalchemy_url(urls.database_url), urls.redis_url)) as platform:
            platform.migrations.upgrade()
            with staged(platform, urls.database_url, urls.redis_url) as made:
                yield made


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_jump_of_the_databases_clock_loses_nothing(
    on_database: Stage, clock: WallClock, jump: timedelta
) -> None:
    stage = on_database
    scheduler = stage.start("scheduler", lease_ttl="3s")
    worker = stage.worker(queues="default", lease_ttl="3s")
    every_second(stage)
    until(lambda: fired(stage) >= 2)
    flag = stage.folder / "flag"
    held = stage.enqueue("until_there", path=str(flag))
    until(lambda: stage.starts()[str(held)] == 1)

    for moved in (jump, timedelta()):
        clock.jump(moved)
        before = fired(stage)
        delayed = stage.enqueue_with("swallows", {"text": "delayed"}, delay="2s")
        until(lambda before=before: fired(stage) >= before + 3, SOON)
        until(lambda delayed=delayed: stage.job(delayed).state == "succeeded", SOON)
        doomed = stage.worker(queues="default", lease_ttl="3s", processes=1)
        doomed.kill_all()
        until(lambda: len(stage.platform.workers.live()) == 1, SOON)

    # the worker that lives was not taken for dead: its job ran once
    flag.touch()
    until(lambda: stage.job(held).state == "succeeded", SOON)
    assert stage.starts()[str(held)] == 1
    assert stage.job(held).crash_count == 0
    check_nothing_fired_twice(stage)
    assert scheduler.alive
    assert worker.alive
    assert scheduler.events("scheduler.database_clock_jumped")
