"""An idle platform: what an api, a scheduler and two worker children send to Postgres and Redis."""

import time
from typing import Final

from benchmarks import serving
from benchmarks.arena import Arena
from benchmarks.harness import Case, Figures, Target
from callboard.jobs.model.queue_limits import Limits

#: After this time the processes have done what they do once at their start. Seconds.
_SETTLE: Final = 8
_MEASURED: Final = 30


def quiet(arena: Arena) -> Figures:
    """Measure statements and commands per second, in total and by process, with three queues, one limited."""
    arena.reset()
    for name in ("bench", "reports"):
        arena.sql("INSERT INTO callboard.queues (name) VALUES (:name) ON CONFLICT DO NOTHING", name=name)
    arena.platform.queues.limit("mail", Limits.read(concurrency=2))
    with serving.api(arena), arena.ready():
        time.sleep(arena.size(_SETTLE, 1))
        before = arena.cpu()
        with arena.counters.count() as requests:
            time.sleep(arena.size(_MEASURED, 2))
        after = arena.cpu()
    spent = sum(after[role] - before[role] for role in after if role in before)
    figures = {**requests.figures, "cpu_percent": 100 * spent / requests.seconds}
    for (application, _), count in requests.statements.items():
        name = f"by_{application.removeprefix('callboard').strip(' -') or 'others'}"
        figures[name] = figures.get(name, 0.0) + count / requests.seconds
    return figures


CASES = [
    Case(
        "idle",
        "api, scheduler and two worker children with nothing to do",
        {"callboard": quiet},
        [Target("statements_s", at_most=6), Target("redis_commands_s", at_most=6)],
    ),
]
