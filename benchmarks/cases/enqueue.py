"""Enqueue: jobs per second that one process enqueues, without a worker. Our calls return after the commit."""

from collections.abc import Callable

from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target
from benchmarks.sending import SenderProgram

BULK = 1_000
THREADS = 8


def ours(
    mode: str, jobs: int, *numbers: int, program: Callable[[Arena], SenderProgram] = SenderProgram.ours
) -> Contender:
    """Return a contender that enqueues `jobs` jobs with our program in a mode of benchmarks/pace.py."""

    def measure(arena: Arena) -> Figures:
        arena.reset()
        count = arena.size(jobs, BULK)
        figures = program(arena).timed(mode, count, *numbers)
        # plus the job that the program sends first, to connect
        stored = arena.sql("SELECT count(*) FROM callboard.jobs WHERE state = 'queued'")[0][0]
        if stored != count + 1:
            raise RuntimeError(f"there are {stored} jobs in the database, not {count + 1}")
        return figures

    return measure


def theirs(mode: str, jobs: int, *numbers: int) -> Contender:
    """Return a contender that sends `jobs` jobs with bare Dramatiq in a mode of benchmarks/pace.py."""

    def measure(arena: Arena) -> Figures:
        arena.reset()
        return SenderProgram.bare(arena).timed(mode, arena.size(jobs, BULK), *numbers)

    return measure


CASES = [
    Case(
        "enqueue-one",
        "one after the other: Client.enqueue beside .send()",
        {"callboard": ours("loop", 5_000, 1), "dramatiq": theirs("loop", 8_000, 1)},
    ),
    Case(
        "enqueue-threads",
        "8 threads of a process: Client.enqueue beside .send()",
        {"callboard": ours("loop", 8_000, THREADS), "dramatiq": theirs("loop", 8_000, THREADS)},
        [Target("rate", at_least=0.9, of="dramatiq")],
    ),
    Case(
        "send-one",
        "one after the other: .send() by our broker beside Dramatiq's",
        {
            "callboard": ours("loop", 5_000, 1, program=SenderProgram.by_dramatiq),
            "dramatiq": theirs("loop", 8_000, 1),
        },
    ),
    Case(
        "send-threads",
        "8 threads of a process: .send() by our broker beside Dramatiq's",
        {
            "callboard": ours("loop", 8_000, THREADS, program=SenderProgram.by_dramatiq),
            "dramatiq": theirs("loop", 8_000, THREADS),
        },
        [Target("rate", at_least=0.9, of="dramatiq")],
    ),
    Case(
        "enqueue-bulk",
        "Client.enqueue_many of 1,000 beside a loop of .send()",
        {"callboard": ours("bulk", 50_000, BULK), "dramatiq": theirs("bulk", 8_000, BULK)},
        [Target("rate", at_least=10, of="dramatiq")],
    ),
]
