"""The reaper judges nobody before the database has been well for a whole lease."""

from contextlib import closing
from datetime import timedelta

import pytest

from callboard.jobs.model.states import JobState
from callboard.jobs.platform import Platform
from callboard.scheduler.reaper import Reaper
from tests.integration.core.factories import NOWHERE, FakeClock, lease, put_job, run_out


@pytest.fixture
def clock():
    return FakeClock()


def look(reaper):
    """What a look at a database that answers, with a lease that has run out, makes of it."""
    return reaper.reap() if reaper.well() else 0


def dead_worker(platform):
    worker = lease(platform)
    run_out(platform, worker)
    with platform.database.transaction() as connection:
        put_job(connection, JobState.RUNNING, worker_id=worker)
    return worker


def test_the_living_are_left_alone_however_long_it_looks(platform, clock):
    reaper, worker = Reaper(platform.workers, clock), lease(platform)
    for _ in range(40):
        assert look(reaper) == 0
        clock.advance(2)
    assert [one.id for one in platform.workers.live()] == [worker]


def test_the_reaper_waits_a_whole_lease_of_healthy_database(platform, clock):
    reaper, worker = Reaper(platform.workers, clock), dead_worker(platform)
    assert platform.workers.ttl == timedelta(seconds=30)
    for _ in range(15):
        assert look(reaper) == 0
        clock.advance(2)
    assert [one.id for one in platform.workers.live()] == [worker]
    assert look(reaper) == 1
    assert platform.workers.live() == []


def test_after_an_outage_the_reaper_waits_anew(platform, clock, monkeypatch):
    reaper = Reaper(platform.workers, clock)
    for _ in range(16):
        look(reaper)
        clock.advance(2)
    dead_worker(platform)
    with closing(Platform("postgresql+psycopg://nobody@127.0.0.1:1/nothing", NOWHERE)) as lost:
        monkeypatch.setattr(reaper, "_workers", lost.workers)
        with pytest.raises(Exception, match="does not answer"):
            look(reaper)
        monkeypatch.undo()
    for _ in range(15):
        clock.advance(2)
        assert look(reaper) == 0
    clock.advance(2)
    assert look(reaper) == 1


def test_a_reaper_that_has_not_looked_for_a_while_waits_anew(platform, clock):
    """Who stood by, or slept, knows nothing of the database's health: nobody may have been able to renew."""
    reaper = Reaper(platform.workers, clock)
    for _ in range(16):
        look(reaper)
        clock.advance(2)
    dead_worker(platform)
    clock.advance(300)
    assert look(reaper) == 0
    assert len(platform.workers.live()) == 1
