"""Put off a job that this worker cannot run, as in a rolling deploy: another worker can take the job.

The attempt is not counted, and the job's function is not called.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

import structlog

from callboard.jobs.metrics import JOBS_PUT_OFF
from callboard.jobs.model.basics.jitter import JITTER
from callboard.jobs.model.basics.json_values import storable
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish
from callboard.jobs.model.states import Verb

#: The delay doubles from the first to the longest, and varies at random by a quarter.
_FIRST: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(minutes=5)
_SPREAD: Final = 0.25
#: After this many doublings the first delay exceeds the longest.
_DOUBLINGS: Final = 6
_LONGEST_REASON: Final = 500

log = structlog.get_logger(__name__)


class Misfit(StrEnum):
    """Why a worker cannot run a job. A label of the metric."""

    UNKNOWN = "unknown"
    ARGUMENTS = "arguments"


def put_off(job: ClaimedJob, worker: str, misfit: Misfit, problem: str) -> Finish:
    """Return the end that puts a job off, with its reason; count it and log it.

    worker: the name of the worker that cannot run the job. problem: the reason, for people.
    """
    reason = storable(f"{worker}: {problem}", _LONGEST_REASON)
    delay = delay_after(job.put_off)
    JOBS_PUT_OFF.labels(job.queue, misfit).inc()
    log.warning(
        "job.put_off", **job.log_fields, reason=reason, times=job.put_off + 1,
        delay=round(delay.total_seconds(), 1),
    )  # fmt: skip
    return Finish(job.id, job.epoch, job.claim_id, Verb.SNOOZE, delay=delay, put_off=reason)


def delay_after(times: int) -> timedelta:
    """Return the delay of a job that was already put off `times` times in a row."""
    plain = min(_FIRST * 2.0 ** min(times, _DOUBLINGS), _LONGEST)
    # The variation keeps jobs from coming back all at once.
    spread = JITTER.uniform(1 - _SPREAD, 1 + _SPREAD)
    return min(plain * spread, _LONGEST)
