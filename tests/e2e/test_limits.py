"""Limits hold over all workers at any moment, whoever is killed, and nothing is stuck afterwards."""

import time
from itertools import pairwise

import pytest
from sqlalchemy import text

from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.request import job_request
from tests.e2e.limit_show import most_at_once
from tests.e2e.stage import until
from tests.integration.core.factories import enqueue_all


@pytest.mark.timeout(240)
def test_no_more_jobs_run_at_once_than_the_limit_says_whoever_is_killed(show) -> None:
    stage = show(concurrency=3)
    stage.enqueue(90, 0.1)
    stage.wait_ended(15)
    stage.kill_a_child()
    stage.wait_ended(30)
    stage.empty_redis()
    stage.wait_ended(45)
    stage.kill_a_worker()
    stage.wait_succeeded(90)
    spans = stage.spans()
    assert len(spans) >= 90
    assert most_at_once(spans) == 3


@pytest.mark.timeout(240)
def test_a_limit_that_is_changed_holds_from_then_on(show) -> None:
    stage = show(concurrency=6)
    stage.enqueue(120, 0.1)
    stage.wait_ended(20)
    stage.limit(concurrency=2)
    # What ran when it was lowered may end.
    until(lambda: stage.stage.states()["running"] <= 2)
    lowered = time.monotonic()
    stage.wait_ended(60)
    raised = time.monotonic()
    stage.limit(concurrency=4)
    stage.wait_succeeded(120)
    spans = stage.spans()
    assert most_at_once(spans) <= 6
    assert most_at_once([span for span in spans if lowered < span.began and span.began < raised]) <= 2
    assert most_at_once([span for span in spans if span.began > lowered]) <= 4
    assert len(spans) == 120


@pytest.mark.timeout(240)
@pytest.mark.long
def test_no_window_of_a_period_sees_more_starts_than_the_rate_says(show, platform) -> None:
    stage = show(rate="8/1s")
    stage.enqueue(64, 0.02)
    stage.wait_ended(16)
    stage.empty_redis()
    stage.kill_a_worker()
    stage.wait_succeeded(64)
    # A start is the moment of the claim; a job's first line runs later.
    with platform.database.autocommit() as connection:
        rows = connection.execute(
            text("SELECT extract(epoch FROM started_at)::float8 FROM callboard.jobs ORDER BY 1")
        )
        starts = [row[0] for row in rows]
    assert len(starts) == 64
    assert min(late - early for early, late in zip(starts, starts[8:], strict=False)) >= 1.0
    # Those that a kill met are among the attempts, too.
    claims = sorted(span.claimed for span in stage.spans())
    assert len(claims) >= 64
    assert min(late - early for early, late in zip(claims, claims[8:], strict=False)) >= 1.0


@pytest.mark.timeout(240)
def test_limits_hold_for_each_key_and_keys_take_turns(show) -> None:
    stage = show(concurrency=4, key_concurrency=2)
    stage.enqueue(60, 0.1, "greedy")
    stage.enqueue(6, 0.1, "modest")
    stage.enqueue(6, 0.1)
    # one that the kill met would come last
    until(lambda: sum(line[:6] == "ended:" and line[-7:] == ":modest" for line in stage._lines()) == 6)
    stage.kill_a_child()
    stage.wait_succeeded(72)
    spans = stage.spans()
    by_key = {key: [span for span in spans if span.key == key] for key in ("greedy", "modest", "")}
    assert most_at_once(spans) <= 4
    assert most_at_once(by_key["greedy"]) == 2
    assert most_at_once(by_key["modest"]) <= 2
    behind = sum(span.began > max(one.began for one in by_key["modest"]) for span in by_key["greedy"])
    assert behind > 20


@pytest.mark.timeout(120)
def test_a_queue_that_runs_one_at_a_time_goes_on_as_soon_as_it_may(show) -> None:
    """Four looks a second alone would take 75 s."""
    stage = show(concurrency=1)
    stage.enqueue(300, 0.0)
    until(lambda: stage.stage.states()["succeeded"] == 300, 55)
    spans = sorted(stage.spans(), key=lambda span: span.began)
    assert all(early.ended <= late.began for early, late in pairwise(spans))


@pytest.mark.timeout(120)
def test_a_job_that_was_claimed_ahead_goes_back_while_longer_jobs_run(stage) -> None:
    stage.platform.queues.limit("limited", Limits.read(key_concurrency=1))
    stage.start("scheduler")
    stage.worker(threads=1, queues="limited")
    keys = [f"key-{n}" for n in range(50)]
    gate = stage.folder / "gate"
    short = [{"name": "span", "kwargs": {"n": 1, "seconds": 0.0}, "limit_key": key} for key in keys]
    long_ = {"name": "until_there", "kwargs": {"path": str(gate)}, "queue": "limited"}
    longs = [{**long_, "limit_key": key} for key in keys]
    requests = [job_request(one) for one in [*short * 40, *longs]]
    enqueue_all(stage.platform, requests)
    until(lambda: stage.states()["succeeded"] == len(short) * 40)
    until(lambda: stage.states()["running"] == 1, 10)
    gate.touch()
    until(lambda: stage.states()["succeeded"] == len(requests))
    assert stage.attempts() == {1: len(requests)}
