"""Promises at full speed: in the middle of a drain a worker child gets SIGKILL, or Redis loses its data."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Final

from benchmarks import draining, work
from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target
from callboard.config.settings import Settings

#: A child may have run at most this many jobs without having written their results.
_SLOTS: Final = int(Settings.model_fields["slots"].default)


def interrupted(inject: Callable[[Arena], None]) -> Contender:
    """Return a contender that drains jobs, calls `inject` when half are done, and counts each job's runs."""

    def measure(arena: Arena) -> Figures:
        count = arena.size(30_000, 5_000)
        arena.reset()
        draining.fill(arena, "counted", count, numbered=True)
        runs = arena.folder / "runs"
        runs.write_text("")
        injected = False

        def meanwhile(done: int) -> None:
            nonlocal injected
            if not injected and done >= count / 2:
                injected = True
                inject(arena)

        with (
            arena.extra_env(work.ledger(str(runs))),
            arena.callboard("scheduler"),
            arena.callboard("worker") as worker,
        ):
            figures = draining.drain(arena, worker, lambda: draining.ended(arena), count, meanwhile=meanwhile)
        if not injected:
            raise RuntimeError("the drain ended before the failure was injected")
        ran = Counter(runs.read_text().split())
        succeeded = arena.sql("SELECT kwargs ->> 'number' FROM callboard.jobs WHERE state = 'succeeded'")
        completed = ran.keys() & {row[0] for row in succeeded}
        return {"lost": count - len(completed), "doubled": ran.total() - len(ran), "rate": figures["rate"]}

    return measure


def kill_child(arena: Arena) -> None:
    """Kill one worker child with SIGKILL."""
    os.kill(arena.platform.workers.live()[0].pid, signal.SIGKILL)


def flush(arena: Arena) -> None:
    """Delete all hints with FLUSHALL."""
    arena.redis.flushall()


CASES = [
    Case(
        "kill-worker",
        "drain of 30,000 jobs, kill -9 of a worker child in the middle",
        {"callboard": interrupted(kill_child)},
        [Target("lost", at_most=0, must=True), Target("doubled", at_most=_SLOTS, must=True)],
    ),
    Case(
        "kill-redis",
        "drain of 30,000 jobs, FLUSHALL in the middle",
        {"callboard": interrupted(flush)},
        [Target("lost", at_most=0, must=True), Target("doubled", at_most=0, must=True)],
    ),
]
