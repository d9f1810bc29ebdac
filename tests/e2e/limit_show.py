"""A limited queue with a scheduler and workers that can be killed, and what its attempts tell afterwards."""

import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import redis
from sqlalchemy import text

from callboard.jobs.attempts.worker import Worker
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.request import job_request
from tests.e2e.stage import Process, Stage, until
from tests.integration.core.factories import enqueue_all

#: A claim that began before a change of limits may set its start this much later. Seconds.
SETTLING = 1.0
#: All of the work of a test, on a machine that does other things, too. Seconds.
LONG = 90.0


@dataclass(frozen=True)
class Span:
    """An attempt, from its first line to its last, or to its process's death; and its claim, by the
    database's clock.
    """

    job: str
    key: str
    claimed: float
    began: float
    ended: float


@dataclass(frozen=True)
class Attempt:
    """An attempt from its claim to its end, by the database's clock. Seconds."""

    key: str
    started: float
    finished: float


@dataclass(frozen=True)
class Term:
    """Limits, and from when to when they may be valid, by the database's clock. Two terms overlap: while the
    limits change, and for as long as a claim may take that began before the change.
    """

    limits: Limits
    since: float
    until: float = math.inf


class Show:
    """A scheduler and three workers on one limited queue."""

    def __init__(self, stage: Stage, redis_url: str, **limits: object) -> None:
        self.stage = stage
        self._redis_url = redis_url
        self._deaths: dict[int, float] = {}
        self.terms: list[Term] = []
        self.limit(**limits)
        self.scheduler = stage.start("scheduler", lease_ttl="6s")
        self.workers = [self._worker() for _ in range(3)]
        for worker in self.workers:
            until(partial(stage.leases, worker))

    def limit(self, **limits: object) -> None:
        """Set the limits of the queue, and record from when to when they are valid."""
        before = self._now()
        self.stage.platform.queues.limit("limited", Limits.read(**limits))
        if self.terms:
            self.terms[-1] = replace(self.terms[-1], until=self._now() + SETTLING)
        self.terms.append(Term(Limits.read(**limits), before))

    def enqueue(self, count: int, seconds: float, *keys: str) -> int:
        """Enqueue so many jobs, for each of the keys if there are any; return how many in all."""
        requests = [
            job_request(
                {"name": "span", "kwargs": {"n": n, "seconds": seconds, "key": key or ""}, "limit_key": key}
            )
            for n in range(count)
            for key in keys or (None,)
        ]
        return len(enqueue_all(self.stage.platform, requests))

    def kill_a_worker(self) -> None:
        """kill -9 of a worker with all its children, while it runs something; another takes its place."""
        victim = until(self._busy)
        assert victim is not None
        # A child that runs a suspect alone may be there beside the usual one, or about to be.
        self._deaths.update({child.pid: time.monotonic() for child in psutil.Process(victim.pid).children()})
        victim.kill_all()
        self.workers[self.workers.index(victim)] = self._worker()

    def kill_a_child(self) -> None:
        """kill -9 of a child alone; its supervisor sees it at once."""
        lease = until(lambda: next((lease for lease in self._leases() if lease.running), None))
        assert lease is not None
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
        began: dict[tuple[str, str], tuple[str, str, float, float]] = {}
        found = []
        for line in self._lines():
            what, job, pid, claimed, at, key = line.split(":")
            if what == "began":
                began[job, pid] = (job, key, float(claimed), float(at))
            else:
                found.append(Span(*began.pop((job, pid)), float(at)))
        return found + [Span(*begun, self._deaths[int(pid)]) for (_, pid), begun in began.items()]

    def attempts(self) -> list[Attempt]:
        """Every attempt, by the database's clock: of Postgres, and those that a kill has overwritten there."""
        ahead = self._now() - time.monotonic()
        ended = self._rows(
            "SELECT id::text, coalesce(limit_key, ''), extract(epoch FROM started_at)::float8,"
            " extract(epoch FROM finished_at)::float8 FROM callboard.jobs"
        )
        known = {(job, started) for job, _, started, _ in ended}
        return [Attempt(key, started, finished) for _, key, started, finished in ended] + [
            Attempt(span.key, span.claimed, span.ended + ahead)
            for span in self.spans()
            if (span.job, span.claimed) not in known
        ]

    def _now(self) -> float:
        """The time by the database's clock."""
        return float(self._rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0])

    def _rows(self, statement: str) -> Sequence[Any]:
        with self.stage.platform.database.autocommit() as connection:
            return connection.execute(text(statement)).all()

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
