"""Memory of a worker child after 20,000 and after 200,000 jobs, which come in waves into an empty table."""

import psutil

from benchmarks import draining
from benchmarks.arena import Arena
from benchmarks.harness import Case, Figures, Target
from benchmarks.processes import resident_mib

WAVE = 20_000
WAVES = 10


def children(arena: Arena) -> Figures:
    """Measure the resident memory of the larger child, in MiB."""
    wave = arena.size(WAVE, 500)
    arena.reset()
    with arena.ready() as worker:
        pids = [one.pid for one in arena.platform.workers.live()]
        sizes = []
        for _ in range(WAVES):
            arena.sql("TRUNCATE callboard.jobs CASCADE")
            draining.fill(arena, "noop", wave)

            def done() -> bool:
                worker.check()
                return draining.ended(arena) >= wave

            arena.until(done, every=0.1)
            sizes.append(max(resident_mib(psutil.Process(pid)) for pid in pids))
    return {"rss_mib_first": sizes[0], "rss_mib": sizes[-1], "growth_mib": sizes[-1] - sizes[0]}


CASES = [
    Case(
        "memory",
        "a worker child after 20,000 and after 200,000 no-op jobs",
        {"callboard": children},
        [Target("rss_mib", at_most=100), Target("growth_mib", at_most=5)],
    ),
]
