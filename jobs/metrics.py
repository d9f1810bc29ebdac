"""The Prometheus metrics of the domain. Each process counts what it does itself.

The values of labels are queues, job names and sources, never ids or arguments, so their number is bounded.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import Counter, Histogram

from callboard.jobs.model.endings import Cancelled
from callboard.jobs.model.states import JobState, Verb

_WAIT_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
    900,
    3600,
)
_DURATION_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class BatchHistogram(Histogram):
    """A histogram that takes many observations with one call, for little more than the cost of one."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """Observe each of these amounts."""
        bounds = self._upper_bounds
        for place, count in Counts(bisect_left(bounds, amount) for amount in amounts).items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(amounts))


JOBS_ENQUEUED = Counter("callboard_jobs_enqueued_total", "Jobs accepted.", ["queue", "job", "source"])
UNIQUE_CONFLICTS = Counter(
    "callboard_unique_conflicts_total",
    "Enqueues whose unique key was held, by result.",
    ["job", "result"],
)
JOBS_FINISHED = Counter(
    "callboard_jobs_finished_total", "Attempts that ended, by outcome.", ["queue", "job", "outcome"]
)
JOB_RETRIES = Counter(
    "callboard_job_retries_total", "Attempts that failed and will be tried again.", ["queue", "job"]
)
JOBS_PUT_OFF = Counter(
    "callboard_jobs_put_off_total",
    "Jobs that a worker put off because it does not know them, or their arguments do not fit.",
    ["queue", "reason"],
)
JOB_LOG_LINES = Counter(
    "callboard_job_log_lines_total",
    "Lines that jobs logged: written, or dropped because there was no room.",
    ["result"],
)
JOB_RESCUES = Counter("callboard_job_rescues_total", "Jobs taken back from workers that died.", ["queue"])
CLAIMS_WITHOUT_TOKEN = Counter(
    "callboard_claims_without_token_total",
    "Jobs claimed directly from Postgres: Redis was away, or had no token of them.",
)
GRANTS = Counter("callboard_grants_total", "Attempts granted within their queue's limits.", ["queue"])
JOB_CRASHES = Counter("callboard_job_crashes_total", "Worker processes that a job killed.", ["queue", "job"])
JOBS_QUARANTINED = Counter(
    "callboard_jobs_quarantined_total",
    "Jobs that are not run again because of their crashes.",
    ["queue", "job"],
)
HARD_TIMEOUTS = Counter(
    "callboard_hard_timeouts_total",
    "Processes killed because a job ran beyond its hard timeout, or did not stop after a forced cancel.",
    ["queue", "job"],
)
STALE_WRITES = Counter(
    "callboard_stale_writes_total", "Writes refused because their attempt had ended.", ["writer"]
)
AUTH_FAILURES = Counter(
    "callboard_auth_failures_total", "Requests with an API key that is not valid, by result.", ["result"]
)
STORE_ERRORS = Counter(
    "callboard_store_errors_total", "Calls that a store did not answer.", ["store", "kind"]
)
JOB_WAIT = BatchHistogram(
    "callboard_job_wait_seconds", "From when a job was due to its start.", ["queue"], buckets=_WAIT_BUCKETS
)
JOB_DURATION = BatchHistogram(
    "callboard_job_duration_seconds",
    "From the start of an attempt to its end.",
    ["queue", "job"],
    buckets=_DURATION_BUCKETS,
)


def count_cancelled(jobs: Iterable[Cancelled]) -> None:
    """Count jobs that an operator cancelled. Their worker counts those that still run, when they stop."""
    for job in jobs:
        if job.state is JobState.CANCELLED:
            JOBS_FINISHED.labels(job.queue, job.name, Verb.CANCEL).inc()
