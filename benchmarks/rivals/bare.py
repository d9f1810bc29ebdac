"""Bare Dramatiq in the arena: its command with two processes of eight threads each, its queue in Redis."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.arena import PROCESSES, ROOT, THREADS, Arena
from benchmarks.processes import Running

JOBS = "benchmarks.rivals.bare_jobs"


@contextmanager
def workers(arena: Arena, **environment: str) -> Iterator[Running]:
    """Run the `dramatiq` command until the block ends."""
    command = [sys.executable, "-m", "dramatiq", JOBS, "--path", str(ROOT)]
    command += ["--processes", str(PROCESSES), "--threads", str(THREADS), "--log-file", os.devnull]
    with arena.start("worker", command, arena.rival_env() | environment) as process:
        yield process


def fill(arena: Arena, job: str, count: int, **environment: str) -> None:
    """Send `count` jobs."""
    code = f"from {JOBS} import {job} as job\nfor _ in range({count}): job.send()"
    subprocess.run(
        [sys.executable, "-c", code], env=arena.rival_env() | environment, cwd=arena.folder, check=True
    )


def remaining(arena: Arena) -> int:
    """Return the jobs that are queued, taken but not acknowledged, or failed."""
    client = arena.redis
    waiting = client.llen("dramatiq:bench")
    taken = sum(int(client.scard(key)) for key in client.scan_iter("dramatiq:__acks__.*.bench"))
    failed = client.llen("dramatiq:bench.DQ") + client.zcard("dramatiq:bench.XQ")
    return int(waiting + taken + failed)
