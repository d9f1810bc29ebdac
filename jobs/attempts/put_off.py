"""Putting off a job that this worker cannot run: back to its queue, for a worker that can, as in a rolling deploy.

No attempt is spent, and the function was never called.
"""

import random
from datetime import timedelta
from enum import StrEnum
from typing import Final

import structlog

from callboard.jobs.metrics import JOBS_PUT_OFF
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.json_values import storable
from callboard.jobs.model.states import Verb

#: The first time; doubled with every further one, up to the longest, and spread by a quarter either way.
_FIRST: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(minutes=5)
_SPREAD: Final = 0.25
#: Doublings that lead from the first beyond the longest.
_DOUBLINGS: Final = 6
_LONGEST_REASON: Final = 500

log = structlog.get_logger(__name__)


class Misfit(StrEnum):
    """Why a worker cannot run a job; the metric's label."""

    UNKNOWN = "unknown"
    ARGUMENTS = "arguments"


def put_off(job: ClaimedJob, worker: str, misfit: Misfit, what: str) -> Finish:
    """snooze, with the reason; `worker` is the one that cannot run it, `what` says what is wrong."""
    reason = storable(f"{worker}: {what}", _LONGEST_REASON)
    delay = delay_after(job.put_off)
    JOBS_PUT_OFF.labels(job.queue, misfit).inc()
    log.warning(
        "job.put_off", job_id=str(job.id), job=job.name, queue=job.queue, reason=reason,
        times=job.put_off + 1, delay=round(delay.total_seconds(), 1),
    )  # fmt: skip
    return Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=delay, put_off=reason)


def delay_after(times: int) -> timedelta:
    """How long to put a job off that was put off so many times before, one after the other."""
    plain = min(_FIRST * 2.0 ** min(times, _DOUBLINGS), _LONGEST)
    spread = random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - so that they do not all come back at once
    return min(plain * spread, _LONGEST)
