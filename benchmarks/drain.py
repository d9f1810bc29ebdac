"""Drain a backlog of no-op jobs: Callboard, every transition in Postgres, beside bare Dramatiq on Redis.

Both run two processes of eight threads on the same Valkey, one after the other, several times. The rate is
that between 10% and 100% done, so that the start of processes does not count. Rates depend on the machine;
the ratio is what the project holds itself to.

    python benchmarks/drain.py [--jobs 20000] [--rounds 3]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from sqlalchemy import text

from config.embedded import ServerUrls, servers
from config.settings import load_settings, sqlalchemy_url
from jobs.definition import define
from jobs.platform import Platform
from jobs.records import Source
from jobs.requests import job_request

HERE = Path(__file__).parent
DEADLINE = 300.0


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--jobs", type=int, default=20_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
        settings = load_settings({"CALLBOARD_DATA_DIR": folder}, Path(folder))
        with servers(settings) as urls:
            rounds = [
                (callboard(urls, options.jobs), bare(urls, options.jobs)) for _ in range(options.rounds)
            ]
    print(f"\n{options.jobs:,} no-op jobs, 2 processes x 8 threads, {options.rounds} rounds: jobs per second")
    print(f"{'round':>7} {'callboard':>12} {'bare dramatiq':>15} {'ratio':>8}")
    for number, (ours, theirs) in enumerate(rounds, 1):
        print(f"{number:>7} {ours:>12,.0f} {theirs:>15,.0f} {ours / theirs:>7.2f}x")
    ratio = statistics.median(ours / theirs for ours, theirs in rounds)
    print(f"{'median':>7} {'':>12} {'':>15} {ratio:>7.2f}x")
    return 0


def callboard(urls: ServerUrls, count: int) -> float:
    """Jobs per second of two worker children, with the scheduler that feeds them."""
    sys.path.insert(0, str(HERE))
    platform = Platform(sqlalchemy_url(urls.database_url), urls.redis_url)
    platform.migrations.upgrade()
    with platform.database.transaction() as connection:
        connection.execute(text("TRUNCATE callboard.jobs CASCADE"))
    from noop_callboard import noop

    platform.catalogue.publish([define(noop).type])
    platform.enqueue.many([job_request({"name": "noop"})] * count, Source("python"))
    environment = {
        **os.environ,
        "CALLBOARD_DATABASE_URL": urls.database_url,
        "CALLBOARD_REDIS_URL": urls.redis_url,
        "CALLBOARD_SECRET_KEY": "only for this benchmark",
        "CALLBOARD_JOBS": "noop_callboard",
        "CALLBOARD_PROCESSES": "2",
        "CALLBOARD_LOG_LEVEL": "warning",
    }
    left = text("SELECT count(*) FROM callboard.jobs WHERE state IN ('queued', 'running')")

    def remaining() -> int:
        with platform.database.autocommit() as connection:
            return int(connection.execute(left).scalar_one())

    try:
        with process("scheduler", environment), process("worker", environment):
            return rate(remaining, count)
    finally:
        platform.close()


def bare(urls: ServerUrls, count: int) -> float:
    """Jobs per second of `dramatiq` with two processes."""
    os.environ["BENCH_REDIS_URL"] = urls.redis_url
    client = redis.Redis.from_url(urls.redis_url)
    client.flushdb()
    enqueue = f"import noop_dramatiq\nfor _ in range({count}): noop_dramatiq.noop.send()"
    subprocess.run([sys.executable, "-c", enqueue], cwd=HERE, check=True)
    command = [
        sys.executable,
        "-m",
        "dramatiq",
        "noop_dramatiq",
        "--processes",
        "2",
        "--threads",
        "8",
        "--log-file",
        os.devnull,
    ]

    def remaining() -> int:
        waiting = client.llen("dramatiq:bench")
        taken = sum(client.scard(key) for key in client.scan_iter("dramatiq:__acks__.*.bench"))
        return int(waiting) + int(taken)

    with running(command, HERE, dict(os.environ)):
        return rate(remaining, count)


@contextmanager
def process(role: str, environment: dict[str, str]) -> Iterator[None]:
    with running([sys.executable, "-m", "cli.main", "run", role], HERE, environment):
        yield


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    child = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        yield
    finally:
        child.terminate()
        child.wait(60)


def rate(remaining: Callable[[], int], count: int) -> float:
    """Jobs per second between 10% and 100% done."""
    begun, deadline = None, time.monotonic() + DEADLINE
    left = count
    while left and time.monotonic() < deadline:
        # To ask costs the database something, so not too often.
        time.sleep(0.1)
        left = remaining()
        if begun is None and left <= count * 0.9:
            begun = (time.monotonic(), left)
    if left or begun is None:
        raise SystemExit(f"{left} jobs were left after {DEADLINE:.0f} s")
    return begun[1] / (time.monotonic() - begun[0])


if __name__ == "__main__":
    sys.exit(main())
