"""Limited queues: jobs per second under a concurrency, under limits for each key, and under a rate."""

from benchmarks import draining
from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.model.request import job_request

#: The number of limit keys.
_KEYS = 100


def limited(jobs: int, *, keys: int = 0, **limits: object) -> Contender:
    """Return a contender that drains `jobs` jobs of a limited queue with two worker children."""

    def measure(arena: Arena) -> Figures:
        count = arena.size(jobs, 200)
        arena.reset()
        arena.platform.queues.limit("bench", Limits.read(**limits))
        fill(arena, count, keys)
        with arena.callboard("scheduler"), arena.callboard("worker") as worker:
            figures = draining.drain(arena, worker, lambda: draining.ended(arena), count)
        draining.check_all_done(arena, count)
        return figures

    return measure


def fill(arena: Arena, count: int, keys: int) -> None:
    """Enqueue `count` no-op jobs. Each of `keys` limit keys has as many jobs as the others."""
    enqueue = arena.platform.enqueue
    for first in range(0, count, 5_000):
        requests = [
            job_request(
                {"name": "noop", "limit_key": f"key-{number % keys:03}"} if keys else {"name": "noop"}
            )
            for number in range(first, min(first + 5_000, count))
        ]
        enqueue.accept(enqueue.check_all(requests, draining.PYTHON))


CASES = [
    Case(
        "limits-one",
        "no-op jobs of a queue with --concurrency 1",
        {"callboard": limited(4_000, concurrency=1)},
        [Target("rate", at_least=600)],
    ),
    Case(
        "limits-sixteen",
        "no-op jobs of a queue with --concurrency 16",
        {"callboard": limited(40_000, concurrency=16)},
        [Target("rate", at_least=5_000)],
    ),
    Case(
        "limits-keys",
        "no-op jobs of a queue with --key-concurrency 1 and 100 keys",
        {"callboard": limited(40_000, keys=_KEYS, key_concurrency=1)},
        [Target("rate", at_least=5_000)],
    ),
    Case(
        "limits-rate",
        "no-op jobs of a queue with --rate 1000/1s",
        {"callboard": limited(10_000, rate="1000/1s")},
        [Target("rate", at_least=980)],
    ),
    Case(
        "limits-rate-high",
        "no-op jobs of a queue with --rate 5000/1s",
        {"callboard": limited(40_000, rate="5000/1s")},
        [Target("rate", at_least=4_900)],
    ),
]
