"""Drain a backlog: jobs per second of two processes with eight threads each, and the CPU time of a job."""

from contextlib import AbstractContextManager

from benchmarks import draining, work
from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target
from benchmarks.rivals import bare


def ours(job: str, jobs: int) -> Contender:
    """Return a contender that drains `jobs` jobs with two worker children and a scheduler."""

    def measure(arena: Arena) -> Figures:
        count = arena.size(jobs, 500)
        arena.reset()
        draining.fill(arena, job, count)
        with arena.callboard("scheduler"), arena.callboard("worker") as worker:
            figures = draining.drain(arena, worker, lambda: draining.ended(arena), count)
        draining.check_all_done(arena, count)
        return figures

    return measure


def theirs(job: str, jobs: int, **environment: str) -> Contender:
    """Return a contender that drains `jobs` jobs with two processes of the `dramatiq` command."""

    def measure(arena: Arena) -> Figures:
        count = arena.size(jobs, 500)
        arena.reset()
        bare.fill(arena, job, count, **environment)
        with bare.workers(arena, **environment) as workers:
            return draining.drain(arena, workers, lambda: count - bare.remaining(arena), count)

    return measure


def calibrated(arena: Arena) -> AbstractContextManager[None]:
    """Set the amount of computing that takes a millisecond on this machine, for the jobs of the case."""
    return arena.extra_env(work.calibrate())


CASES = [
    Case(
        "drain-sync",
        "no-op jobs, 2 processes x 8 threads",
        {"callboard": ours("noop", 150_000), "dramatiq": theirs("noop", 20_000)},
        [Target("rate", at_least=3.5, of="dramatiq")],
    ),
    Case(
        "drain-async",
        "async no-op jobs, 2 processes; dramatiq with AsyncIO",
        {"callboard": ours("noop_async", 150_000), "dramatiq": theirs("noop_async", 15_000, BENCH_ASYNC="1")},
    ),
    Case(
        "drain-sleep",
        "jobs that sleep for 5 ms; 16 threads could run 3,200 jobs/s",
        {"callboard": ours("sleeps", 8_000), "dramatiq": theirs("sleeps", 8_000)},
    ),
    Case(
        "drain-cpu",
        "jobs that compute for 1 ms, 2 processes x 8 threads",
        {"callboard": ours("spins", 6_000), "dramatiq": theirs("spins", 6_000)},
        around=calibrated,
    ),
]
