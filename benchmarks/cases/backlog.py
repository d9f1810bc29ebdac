"""A long queue: drain the first jobs of a queue with 1,000,000 other jobs behind them, and with none."""

from benchmarks import draining, loading
from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target

JOBS = 20_000


def first_of(behind: int) -> Contender:
    """Return a contender that drains the first jobs of a queue which has `behind` more jobs."""

    def measure(arena: Arena) -> Figures:
        count = arena.size(JOBS, 500)
        arena.reset()
        draining.fill(arena, "noop", count)
        if behind:
            loading.queue_behind(arena, arena.size(behind, 5_000))
        else:
            loading.settle(arena)
        with arena.callboard("scheduler"), arena.callboard("worker") as worker:
            return draining.drain(arena, worker, lambda: draining.ended(arena), count)

    return measure


CASES = [
    Case(
        "backlog",
        "the first 20,000 jobs of a queue of 1,020,000",
        {"1M behind": first_of(1_000_000), "none behind": first_of(0)},
        [Target("rate", at_least=0.85, of="none behind")],
    ),
]
