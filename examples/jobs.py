"""Example jobs. Each is of a different kind and does real work.

Workers load them with CALLBOARD_JOBS=examples.jobs.
"""

import asyncio
import calendar
import os
import random
import shutil
from collections import Counter
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import dramatiq
from tenacity import wait_fixed

from callboard import Fail, RetryPolicy, current_job, job

_LANGUAGES = {".md": "Markdown", ".py": "Python", ".rb": "Ruby", ".js": "JavaScript", ".toml": "TOML"}


@job(queue="reports", retry=RetryPolicy(max_attempts=5), timeout="1m")
def build_report(account_id: int, month: str) -> dict[str, Any]:
    """Add up the bookings of an account for a month, day by day, and report the progress."""
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise Fail(f"{month!r} is not a month such as 2026-10; a retry cannot succeed") from None
    task, last = current_job(), calendar.monthrange(first.year, first.month)[1]
    days = {}
    for day in range(1, last + 1):
        task.progress((day - 1) / last, f"{month}-{day:02}")
        days[day] = sum(_bookings(account_id, month, day))
    best = max(days, key=lambda day: days[day])
    return {"days": last, "total": f"{sum(days.values()) / 100:.2f}", "best_day": f"{month}-{best:02}"}


def _bookings(account_id: int, month: str, day: int) -> list[int]:
    """Return a day's bookings in cents: random, but the same in every attempt and on every machine."""
    chance = random.Random(f"{account_id} {month} {day}")  # noqa: S311 - no secret
    return [chance.randint(-20_000, 30_000) for _ in range(chance.randint(50, 500))]


@job(queue="hooks")
def summarise_push(event: str, delivery_id: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Summarise a GitHub push: commits by author, number of changed files, languages by extension."""
    commits = payload.get("commits", [])
    files = {path for commit in commits for kind in ("added", "modified", "removed") for path in commit[kind]}
    suffixes = (PurePosixPath(path).suffix for path in files)
    current_job().log.info("push.summarised", event_name=event, delivery=delivery_id, files=len(files))
    return {
        "repository": payload["repository"]["full_name"],
        "commits": dict(Counter(commit["author"]["name"] for commit in commits)),
        "files": len(files),
        "languages": dict(Counter(_LANGUAGES.get(suffix, suffix or "other") for suffix in suffixes)),
    }


@job(queue="files")
async def count_lines(pattern: str = "**/*.py") -> dict[str, int]:
    """Count the lines of the files in this project that match, reading up to sixteen at a time."""
    semaphore = asyncio.Semaphore(16)

    async def lines(path: Path) -> int:
        async with semaphore:
            return (await asyncio.to_thread(path.read_bytes)).count(b"\n")

    here = Path(__file__).parent.parent
    paths = [path for folder in ("examples", "jobs", "workers") for path in (here / folder).glob(pattern)]
    counts = await asyncio.gather(*(lines(path) for path in paths))
    return {"files": len(counts), "lines": sum(counts)}


@job(retry=RetryPolicy(max_attempts=3, wait=wait_fixed(0.2), retry_on=(ConnectionError,)))
def flaky(address: str) -> str:
    """Fail in the first attempt, as while a service restarts. The second attempt succeeds."""
    if current_job().attempt == 1:
        raise ConnectionRefusedError(f"{address} does not answer")
    return f"{address} answered"


@job
def heartbeat() -> dict[str, float]:
    """Return the load average of the last minute, and the free share of the disk."""
    disk = shutil.disk_usage("/")
    return {"load": round(os.getloadavg()[0], 2), "disk_free": round(disk.free / disk.total, 3)}


@job(queue="numbers")
def count_primes(start: int, stop: int) -> int:
    """Count the primes from `start` to `stop`, without `stop`."""
    sieve = bytearray([1]) * (stop - start)
    for number in range(2, int(stop**0.5) + 1):
        first = max(number * number, -(-start // number) * number) - start
        sieve[first::number] = bytes(len(range(first, stop - start, number)))
    return sum(sieve) - sum(1 for number in (0, 1) if start <= number < stop)


@dramatiq.actor(max_retries=3)
def count_words(text: str) -> dict[str, int]:
    """Count the three most common words. This is a plain Dramatiq actor, which does not import Callboard."""
    return dict(Counter(text.lower().split()).most_common(3))
