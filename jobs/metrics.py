"""The Prometheus series that the domain counts; each is counted by the process that did it.

Labels are bounded by what operators define (queues, jobs, doors), never an id or an argument.
"""

from typing import Final

from prometheus_client import Counter, Histogram

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

JOBS_ENQUEUED = Counter("callboard_jobs_enqueued_total", "Jobs accepted.", ["queue", "job", "source"])
JOBS_FINISHED = Counter(
    "callboard_jobs_finished_total", "Attempts that ended, by outcome.", ["queue", "job", "outcome"]
)
JOB_RETRIES = Counter(
    "callboard_job_retries_total", "Attempts that failed and will be tried again.", ["queue", "job"]
)
JOB_RESCUES = Counter("callboard_job_rescues_total", "Jobs taken back from workers that died.", ["queue"])
STALE_WRITES = Counter(
    "callboard_stale_writes_total", "Writes refused because their attempt was over.", ["writer"]
)
STORE_ERRORS = Counter(
    "callboard_store_errors_total", "Calls that a store did not answer.", ["store", "kind"]
)
JOB_WAIT = Histogram("callboard_job_wait_seconds", "From due to started.", ["queue"], buckets=_WAIT_BUCKETS)
JOB_DURATION = Histogram(
    "callboard_job_duration_seconds", "From started to ended.", ["queue", "job"], buckets=_DURATION_BUCKETS
)
