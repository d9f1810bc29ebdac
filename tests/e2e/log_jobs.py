"""The jobs of test_logs.py, run in processes of their own."""

import asyncio
import logging
import time
from pathlib import Path

import structlog
from tenacity import wait_fixed

from callboard import RetryPolicy, current_job, job

log = logging.getLogger("shop.reports")
TWICE = RetryPolicy(max_attempts=2, wait=wait_fixed(0.1))


@job(retry=TWICE)
def tells(part: int) -> str:
    """Log by every way there is; fail the first time."""
    task = current_job()
    log.debug("nobody keeps this")
    log.info("part %d of attempt %d", part, task.attempt, extra={"rows": 12})
    structlog.get_logger("shop.events").warning("part.late", seconds=3, token="hush hush")
    task.log.info("rendered", pages=7)
    log.info("connecting to postgres://app:hunter2@db/shop with password=hunter2 \x00 \ud800")
    task.progress(0.25 * task.attempt, "half \ud800 told")
    if task.attempt == 1:
        try:
            raise OSError("the disk is full")
        except OSError:
            log.exception("cannot write")
            raise
    return "told"


@job(queue="async")
async def tells_async(n: int) -> None:
    log.info("job %d begins", n)
    await asyncio.sleep(0)
    await asyncio.to_thread(log.info, "job %d in a thread", n)
    log.info("job %d ends", n)


@job
def floods(lines: int) -> None:
    for number in range(1, lines + 1):
        log.info("line %d", number)


@job
def tells_slowly(path: str) -> None:
    """Log and report, then wait for a file."""
    log.info("waiting")
    current_job().progress(0.5, "waiting")
    try:
        while not Path(path).exists():
            time.sleep(0.02)
    except BaseException:
        log.warning("interrupted")
        raise
    log.info("it is there")
    current_job().progress(0.9, "nearly there")


@job
def reports(times: int) -> float:
    """Report in a tight loop; returns the seconds it took."""
    task = current_job()
    begin = time.perf_counter()
    for number in range(times):
        task.progress(number / times, "counting")
    task.progress(float("nan"), "x" * 100_000)
    took = time.perf_counter() - begin
    task.progress(float("inf"))
    return took


@job(retry=RetryPolicy(max_attempts=1))
def returns(size: int) -> str:
    return "x" * size
