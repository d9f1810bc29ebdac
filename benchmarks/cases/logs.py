"""Jobs that log a line, while the worker's stderr is not read, is read, or leads nowhere."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks import draining
from benchmarks.arena import Arena
from benchmarks.harness import Case, Contender, Figures, Target

#: Their lines are far more than a pipe takes, and than wait in memory while it takes none.
_JOBS = 40_000


@contextmanager
def unread_pipe() -> Iterator[int]:
    """Yield the end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    try:
        yield writer
    finally:
        os.close(writer)
        os.close(reader)


@contextmanager
def read_pipe() -> Iterator[int]:
    """Yield the end of a pipe that another process reads."""
    reader, writer = os.pipe()
    with subprocess.Popen(["cat"], stdin=reader, stdout=subprocess.DEVNULL):
        os.close(reader)
        try:
            yield writer
        finally:
            # It ends when the worker has ended too.
            os.close(writer)


@contextmanager
def nowhere() -> Iterator[int]:
    """Yield a descriptor of /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        yield null
    finally:
        os.close(null)


def with_stderr(stream: Callable[[], AbstractContextManager[int]]) -> Contender:
    """Return a contender that drains jobs which log a line each. stream: yields the worker's stderr."""

    def measure(arena: Arena) -> Figures:
        count = arena.size(_JOBS, 500)
        arena.reset()
        draining.fill(arena, "logs", count)
        with (
            stream() as stderr,
            arena.callboard("scheduler"),
            arena.callboard("worker", stderr, log_level="info") as worker,
        ):
            figures = draining.drain(arena, worker, lambda: draining.ended(arena), count)
        draining.check_all_done(arena, count)
        return figures

    return measure


CASES = [
    Case(
        "logs-stalled",
        "jobs that log a line; nobody reads the worker's stderr",
        {
            "unread": with_stderr(unread_pipe),
            "read": with_stderr(read_pipe),
            "/dev/null": with_stderr(nowhere),
        },
        [Target("rate", at_least=0.9, of="read"), Target("rate", at_least=0.9, of="/dev/null")],
    ),
]
