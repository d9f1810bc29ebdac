"""Enqueue: how many jobs a second one process gets accepted, with no worker running. Ours are committed each time."""

from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target
from benchmarks.sending import Program

BULK = 1_000
THREADS = 8


def ours(how: str, jobs: int, *numbers: int) -> Contender:
    def measure(arena: Arena) -> Figures:
        arena.reset()
        count = arena.size(jobs, BULK)
        figures = Program.ours(arena).timed(how, count, *numbers)
        # one goes ahead, to connect
        kept = arena.sql("SELECT count(*) FROM callboard.jobs WHERE state = 'queued'")[0][0]
        if kept != count + 1:
            raise RuntimeError(f"{kept} jobs are kept, not {count + 1}")
        return figures

    return measure


def theirs(how: str, jobs: int, *numbers: int) -> Contender:
    def measure(arena: Arena) -> Figures:
        arena.reset()
        return Program.bare(arena).timed(how, arena.size(jobs, BULK), *numbers)

    return measure


CASES = [
    Case(
        "enqueue-one",
        "one after the other: Client.enqueue beside .send()",
        {"callboard": ours("loop", 5_000, 1), "dramatiq": theirs("loop", 8_000, 1)},
        [Target("rate", at_least=0.6, of="dramatiq")],
    ),
    Case(
        "enqueue-threads",
        "8 threads of a process: Client.enqueue beside .send()",
        {"callboard": ours("loop", 8_000, THREADS), "dramatiq": theirs("loop", 8_000, THREADS)},
        [Target("rate", at_least=1.0, of="dramatiq")],
    ),
    Case(
        "enqueue-bulk",
        "Client.enqueue_many of 1,000 beside a loop of .send()",
        {"callboard": ours("bulk", 50_000, BULK), "dramatiq": theirs("bulk", 8_000, BULK)},
        [Target("rate", at_least=10, of="dramatiq")],
    ),
]
