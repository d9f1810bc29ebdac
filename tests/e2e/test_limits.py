"""Limits hold over all workers at any moment, whoever is killed, and nothing is stuck afterwards."""

import os
import signal
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import text

from callboard.jobs.attempts.worker import Worker
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.request import job_request
from tests.e2e.stage import Process, Stage, until
from tests.integration.core.factories import enqueue_all

#: All of the work of a test, on a machine that does other things, too. Seconds.
LONG = 90.0


@dataclass(frozen=True)
class Span:
    """An attempt, from its first line to its last, or to its process's death; and its claim, by the
    database's clock.
    """

    key: str
    claimed: float
    began: float
    ended: float


class Show:
    """A scheduler and three workers on one limited queue."""

    def __init__(self, stage: Stage, redis_url: str, **limits: object) -> None:
        self.stage = stage
        self._redis_url = redis_url
        self._deaths: dict[int, float] = {}
        self.limit(**limits)
        self.scheduler = stage.start("scheduler", lease_ttl="6s")
        self.workers = [self._worker() for _ in range(3)]
        for worker in self.workers:
            until(lambda worker=worker: stage.leases(worker))

    def limit(self, **limits: object) -> None:
        self.stage.platform.queues.limit("limited", Limits.read(**limits))

    def enqueue(self, count: int, seconds: float, key: str | None = None) -> None:
        kwargs = {"seconds": seconds, "key": key or ""}
        requests = [
            job_request({"name": "span", "kwargs": {"n": n, **kwargs}, "limit_key": key})
            for n in range(count)
        ]
        enqueue_all(self.stage.platform, requests)

    def kill_a_worker(self) -> None:
        """kill -9 of a worker with all its children, while it runs something; another takes its place."""
        victim = until(self._busy)
        # A child that runs a suspect alone may be there beside the usual one, or about to be.
        self._deaths.update({child.pid: time.monotonic() for child in psutil.Process(victim.pid).children()})
        victim.kill_all()
        self.workers[self.workers.index(victim)] = self._worker()

    def kill_a_child(self) -> None:
        """kill -9 of a child alone; its supervisor sees it at once."""
        lease = until(lambda: next((lease for lease in self._leases() if lease.running), None))
        self._deaths[lease.pid] = time.monotonic()
        os.kill(lease.pid, signal.SIGKILL)

    def empty_redis(self) -> None:
        with redis.Redis.from_url(self._redis_url) as client:
            client.flushdb()

    def wait_ended(self, count: int) -> None:
        until(lambda: sum(line.startswith("ended:") for line in self._lines()) >= count, LONG)

    def wait_succeeded(self, count: int) -> None:
        until(lambda: self.stage.states()["succeeded"] >= count, LONG)

    def spans(self) -> list[Span]:
        """Every attempt; one that never ended did so when its process was killed."""
        began: dict[tuple[str, str], tuple[str, float, float]] = {}
        found = []
        for line in self._lines():
            what, job, pid, claimed, at, key = line.split(":")
            if what == "began":
                began[job, pid] = (key, float(claimed), float(at))
            else:
                found.append(Span(*began.pop((job, pid)), float(at)))
        return found + [Span(*begun, self._deaths[int(pid)]) for (_, pid), begun in began.items()]

    def _lines(self) -> list[str]:
        return Path(self.stage._ledger).read_text().split("\n")[:-1]

    def _worker(self) -> Process:
        return self.stage.start("worker", processes=1, threads=8, lease_ttl="6s", queues="limited")

    def _leases(self) -> list[Worker]:
        return [lease for worker in self.workers for lease in self.stage.leases(worker)]

    def _busy(self) -> Process | None:
        """A worker whose child runs a job."""
        return next(
            (one for one in self.workers if any(lease.running for lease in self.stage.leases(one))), None
        )


def most_at_once(spans: list[Span]) -> int:
    """How many of them ran in the same moment."""
    events = sorted([(span.began, 1) for span in spans] + [(span.ended, -1) for span in spans])
    running, most = 0, 0
    for _, step in events:
        running += step
        most = max(most, running)
    return most


@pytest.fixture
def show(stage: Stage, redis_url: str):
    return lambda **limits: Show(stage, redis_url, **limits)


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
