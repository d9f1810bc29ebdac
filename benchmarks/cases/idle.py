"""An idle platform: what an api, a scheduler and a worker of two children ask of Postgres and Redis with nothing to do."""

import time
from typing import Final

from benchmarks import serving
from benchmarks.arena import Arena
from benchmarks.harness import Case, Figures, Target
from callboard.jobs.model.queue_limits import Limits

#: What was new to anybody is known by then, and what one does once at the start is done. Seconds.
_SETTLE: Final = 8
_MEASURED: Final = 30


def quiet(arena: Arena) -> Figures:
    """Statements and commands a second, in all and by who tells them; three queues are known, one of them is limited."""
    arena.reset()
    for name in ("bench", "reports"):
        arena.sql("INSERT INTO callboard.queues (name) VALUES (:name) ON CONFLICT DO NOTHING", name=name)
    arena.platform.queues.limit("mail", Limits.read(concurrency=2))
    with serving.api(arena), arena.ready():
        time.sleep(arena.size(_SETTLE, 1))
        before = arena.cpu()
        with arena.counters.asked() as asked:
            time.sleep(arena.size(_MEASURED, 2))
        after = arena.cpu()
    spent = sum(after[role] - before[role] for role in after if role in before)
    figures = {**asked.figures, "cpu_percent": 100 * spent / asked.seconds}
    for (who, _), count in asked.statements.items():
        name = f"by_{who.removeprefix('callboard').strip(' -') or 'others'}"
        figures[name] = figures.get(name, 0.0) + count / asked.seconds
    return figures


CASES = [
    Case(
        "idle",
        "api, scheduler and two worker children with nothing to do",
        {"callboard": quiet},
        [Target("statements_s", at_most=6), Target("redis_commands_s", at_most=6)],
    ),
]
