"""Promises at full speed: a drain in whose middle a worker child is killed with -9, or Redis loses all it has."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Final

from benchmarks import draining, work
from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target
from callboard.config.settings import Settings

#: What a child may have run without having written it: its slots.
_SLOTS: Final = int(Settings.model_fields["slots"].default)


def interrupted(strike: Callable[[Arena], None]) -> Contender:
    """Drain, strike once when half is done, and count what ran how often."""

    def measure(arena: Arena) -> Figures:
        count = arena.size(30_000, 5_000)
        arena.reset()
        draining.fill(arena, "counted", count, numbered=True)
        runs = arena.folder / "runs"
        runs.write_text("")
        struck = False

        def meanwhile(done: int) -> None:
            nonlocal struck
            if not struck and done >= count / 2:
                struck = True
                strike(arena)

        with (
            arena.given(work.ledger(str(runs))),
            arena.callboard("scheduler"),
            arena.callboard("worker") as worker,
        ):
            figures = draining.drain(arena, worker, lambda: draining.ended(arena), count, meanwhile=meanwhile)
        if not struck:
            raise RuntimeError("it was over before anything was struck")
        ran = Counter(runs.read_text().split())
        succeeded = arena.sql("SELECT kwargs ->> 'number' FROM callboard.jobs WHERE state = 'succeeded'")
        kept = ran.keys() & {row[0] for row in succeeded}
        return {"lost": count - len(kept), "doubled": ran.total() - len(ran), "rate": figures["rate"]}

    return measure


def kill_child(arena: Arena) -> None:
    """kill -9 of one worker child."""
    os.kill(arena.platform.workers.live()[0].pid, signal.SIGKILL)


def flush(arena: Arena) -> None:
    """FLUSHALL: every hint is gone."""
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
