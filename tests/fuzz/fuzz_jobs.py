"""The jobs of the fuzz: they take any arguments, and end in every way that a job can end."""

import random
import time
from typing import Any

import structlog
from tenacity import wait_fixed

from callboard import Cancel, Fail, Retry, RetryPolicy, Snooze, current_job, job

log = structlog.get_logger("fuzz")


@job(queue="fuzz", retry=RetryPolicy(max_attempts=2, wait=wait_fixed(0.05)))
def anything(*args: Any, **kwargs: Any) -> Any:
    """Log, report progress, and end at random."""
    log.warning("fuzz.runs", arguments=len(args) + len(kwargs))
    current_job().progress(random.random(), "under way")
    match random.randrange(8):
        case 0:
            raise ValueError("as it happens")
        case 1:
            raise Fail("for good")
        case 2:
            raise Retry("20ms", "again")
        case 3:
            raise Cancel("no longer wanted")
        case 4 if random.random() < 0.5:
            raise Snooze("50ms")
        case 5:
            time.sleep(0.3)
    return {"args": args, "kwargs": kwargs}


@job(queue="fuzz")
def report(account_id: int, month: str = "2026-10") -> int:
    """Take arguments of certain types only."""
    return account_id + len(month)
