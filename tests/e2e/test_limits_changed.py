"""Limits hold at full speed while they are changed, workers are killed, and Redis loses everything."""

import math
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Event

import pytest

from callboard.jobs.model.queue_limits import Limits
from tests.e2e.limit_show import Attempt, Show, Term
from tests.e2e.stage import until

#: How long each test disturbs the queue. Seconds.
A_MINUTE = 60.0
_BACKLOG = 10_000
#: Between a change and a trouble. Seconds.
_PAUSE = 2.0

Figure = Callable[[Limits], int | None]
Changes = Sequence[dict[str, object]]


def disturb(show: Show, changes: Changes, *keys: str, seconds: float = 0.0) -> int:
    """Change the limits, and kill and empty, in turns for a minute. Return how many jobs were enqueued.

    The queue always has jobs: another thread enqueues them.
    """
    over = Event()

    def fill() -> int:
        enqueued = 0
        while not over.wait(0.1):
            if show.stage.states()["queued"] < _BACKLOG:
                enqueued += show.enqueue(_BACKLOG // (len(keys) or 1), seconds, *keys)
        return enqueued

    troubles = cycle((show.kill_a_child, show.empty_redis, show.kill_a_worker))
    following = cycle(changes)
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill)
        try:
            until(lambda: show.stage.states()["succeeded"])
            ends = time.monotonic() + A_MINUTE
            while time.monotonic() < ends:
                show.limit(**next(following))
                time.sleep(_PAUSE)
                next(troubles)()
                time.sleep(_PAUSE)
        finally:
            over.set()
    # What is left may be many jobs for a low limit.
    show.limit()
    show.wait_succeeded(filling.result())
    return filling.result()


def largest(terms: Sequence[Term], figure: Figure, since: float, until: float) -> float:
    """The largest limit that may have been valid between two times."""
    found = [figure(term.limits) for term in terms if term.since <= until and term.until >= since]
    return max(math.inf if one is None else one for one in found)


def too_many_at_once(attempts: Sequence[Attempt], terms: Sequence[Term], figure: Figure) -> list[str]:
    """The starts that found as many attempts in progress as the limits of that moment allow, or more."""
    starts = sorted(one.started for one in attempts)
    ends = sorted(one.finished for one in attempts)
    found = []
    for number, start in enumerate(starts, 1):
        running = number - bisect_right(ends, start)
        allowed = largest(terms, figure, start, start)
        if running > allowed:
            found.append(f"{running} ran at {start}, and {allowed} may")
    return found


def too_many_starts(attempts: Sequence[Attempt], terms: Sequence[Term], period: float) -> list[str]:
    """The starts that exceed every rate of the period that ends with them. A rate counts from when it was set."""
    starts = sorted(one.started for one in attempts)
    free = [term.until for term in terms if term.limits.rate is None]
    found = []
    for number, start in enumerate(starts, 1):
        since = max([start - period, *(until for until in free if until <= start)])
        # Strictly later: a start counts for one whole period.
        count = number - bisect_left(starts, math.nextafter(since, math.inf))
        allowed = largest(terms, lambda its: its.rate.amount if its.rate else None, since, start)
        if count > allowed:
            found.append(f"{count} started in the {period} s until {start}, and {allowed} may")
    return found


@pytest.mark.timeout(400)
@pytest.mark.long
def test_no_more_run_at_once_than_the_changing_limit_of_a_queue_says_at_full_speed(show) -> None:
    its = show(concurrency=16)
    changes: Changes = [{"concurrency": 4}, {"concurrency": 24}, {}, {"concurrency": 1}, {"concurrency": 16}]
    enqueued = disturb(its, changes)
    attempts = its.attempts()
    assert len(attempts) >= enqueued > _BACKLOG
    assert too_many_at_once(attempts, its.terms, lambda limits: limits.concurrency) == []


@pytest.mark.timeout(400)
@pytest.mark.long
def test_no_more_of_a_key_run_at_once_than_its_changing_limit_says_at_full_speed(show) -> None:
    its = show(key_concurrency=1)
    changes: Changes = [
        {"key_concurrency": 3},
        {"key_concurrency": 1},
        {"key_concurrency": 2, "concurrency": 12},
        {},
        {"key_concurrency": 1},
    ]
    # A kill waits until it sees a job that runs.
    enqueued = disturb(its, changes, *(f"key-{n}" for n in range(100)), seconds=0.005)
    attempts = its.attempts()
    assert len(attempts) >= enqueued > _BACKLOG
    of_key: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        of_key[attempt.key].append(attempt)
    assert len(of_key) == 100
    for each in of_key.values():
        assert too_many_at_once(each, its.terms, lambda limits: limits.key_concurrency) == []
    assert too_many_at_once(attempts, its.terms, lambda limits: limits.concurrency) == []


@pytest.mark.timeout(400)
@pytest.mark.long
def test_no_period_sees_more_starts_than_the_changing_rate_says_at_full_speed(show) -> None:
    its = show(rate="1000/1s")
    changes: Changes = [{"rate": "200/1s"}, {"rate": "2000/1s"}, {}, {"rate": "500/1s"}, {"rate": "1000/1s"}]
    enqueued = disturb(its, changes, seconds=0.01)
    attempts = its.attempts()
    assert len(attempts) >= enqueued >= _BACKLOG
    assert too_many_starts(attempts, its.terms, 1.0) == []
