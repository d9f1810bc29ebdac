"""The gauges of queues: they have a limit, they follow Postgres, and only the leader has them."""

import time
from contextlib import ExitStack

import pytest

from callboard.config.settings import Settings
from callboard.jobs.metric_labels import MAX_LABEL_SETS, OTHER
from callboard.jobs.model.queue_limits import Limits
from callboard.scheduler.gauges import WORKERS, Gauges
from callboard.scheduler.leader import Leader
from callboard.scheduler.scheduler_process import Scheduler
from tests.integration.core.factories import enqueue, lease, publish, run_sql, until
from tests.samples import sample, series

NAMES = (
    "callboard_queue_jobs",
    "callboard_queue_granted",
    "callboard_queue_suspects",
    "callboard_queue_oldest_seconds",
    "callboard_workers",
)


@pytest.fixture
def gauges(platform):
    gauges = Gauges(platform.queues)
    # The test counts at once, and not after a pause.
    gauges.round = lambda: (setattr(gauges, "_not_before", 0.0), Gauges.round(gauges))
    yield gauges
    gauges.clear()


def many_queues(platform, number):
    """A queued job in each of many queues, two in the first."""
    run_sql(
        platform,
        "INSERT INTO callboard.queues (name) SELECT 'queue-' || n FROM generate_series(1, :number) n",
        number=number,
    )
    run_sql(
        platform,
        "INSERT INTO callboard.jobs (id, name, queue, state, max_attempts, run_at, source)"
        " SELECT callboard.uuid7(), 'a', 'queue-' || greatest(n, 1), 'queued', 1, now(), 'sql'"
        " FROM generate_series(0, :number) n",
        number=number,
    )


def test_five_thousand_queues_leave_200_label_sets_and_the_rest_in_other(platform, gauges):
    many_queues(platform, 5_000)
    gauges.round()
    for name in NAMES:
        assert len(series(name)) <= MAX_LABEL_SETS, name
    jobs = series("callboard_queue_jobs")
    assert sum(jobs.values()) == 5_001
    assert jobs[("queue-1", "queued")] == 2
    shown = sum(value for (queue, _), value in jobs.items() if queue != OTHER)
    assert jobs[(OTHER, "queued")] == 5_001 - shown > 4_000


def test_gauges_of_queues_whose_jobs_are_gone_disappear(platform, gauges):
    many_queues(platform, 300)
    gauges.round()
    assert sample("callboard_queue_jobs", queue="queue-1", state="queued") == 2
    run_sql(platform, "DELETE FROM callboard.jobs")
    gauges.round()
    assert [name for name in NAMES if series(name)] == []


def test_a_queue_without_jobs_has_gauges_while_something_names_it(platform, gauges):
    publish(platform)
    platform.queues.limit("limited", Limits.read(concurrency=3))
    enqueue(platform, queue="paused")
    platform.queues.pause("paused")
    run_sql(platform, "DELETE FROM callboard.jobs")
    gauges.round()
    assert {queue for (queue,) in series("callboard_workers")} == {"hooks", "limited", "paused", "reports"}
    assert sample("callboard_queue_jobs", queue="limited", state="queued") == 0


def test_a_queue_that_a_worker_names_has_gauges(platform, gauges):
    enqueue(platform, queue="mail")
    run_sql(platform, "DELETE FROM callboard.jobs")
    worker = lease(platform)
    run_sql(platform, "UPDATE callboard.workers SET queues = '{mail}' WHERE id = :id", id=worker)
    gauges.round()
    assert sample("callboard_workers", queue="mail") == 1


def test_queues_without_workers_are_shown_before_those_with_workers():
    WORKERS.replace({(f"queue-{number}",): float(number > 0) for number in range(1_000)})
    try:
        assert sample("callboard_workers", queue="queue-0") == 0
        assert sample("callboard_workers", queue=OTHER) == 1
    finally:
        WORKERS.clear()


def test_a_scheduler_that_does_not_lead_has_no_gauges_of_queues_and_does_not_lag(platform):
    leader = Leader(platform.database)
    leader.check()
    WORKERS.replace({("mail",): 1.0})
    try:
        with ExitStack() as opened:
            began = time.monotonic()
            Scheduler(platform, Settings(), opened)
            until(lambda: not series("callboard_workers"))
            until(lambda: sample("callboard_scheduler_lag_seconds") < time.monotonic() - began)
            assert sample("callboard_scheduler_leader") == 0
    finally:
        leader.resign()


def test_jobs_that_wait_to_run_alone_are_gauged_by_queue(platform, gauges):
    waiting, _ = enqueue(platform, 2)
    run_sql(platform, "UPDATE callboard.jobs SET solo = true WHERE id = :id", id=waiting)
    gauges.round()
    assert sample("callboard_queue_suspects", queue="reports") == 1
    run_sql(platform, "UPDATE callboard.jobs SET solo = false WHERE id = :id", id=waiting)
    gauges.round()
    assert sample("callboard_queue_suspects", queue="reports") == 0
