"""The Prometheus metrics of the domain. Each process counts what it does itself.

The values of labels are queues, job names and sources, never ids or arguments. A metric has at most 200 label
sets (metric_labels.py).
"""

import platform
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Final, Literal

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from callboard.jobs.metric_labels import Bounded
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
_STORE_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class BatchHistogram(Histogram):
    """A histogram that takes many observations with one call, for little more than the cost of one."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """Observe each of these amounts."""
        bounds = self._upper_bounds
        for place, count in Counts(bisect_left(bounds, amount) for amount in amounts).items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(amounts))


class _BuildInfo(Collector):
    """The version of Callboard and of Python. The version is read at the first scrape: that takes time."""

    def describe(self) -> Iterator[Metric]:
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        family.add_metric([version("callboard"), platform.python_version()], 1)
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "callboard_build_info", "1; the labels are the versions.", labels=["version", "python"]
        )


REGISTRY.register(_BuildInfo())

JOBS_ENQUEUED = Bounded(
    Counter("callboard_jobs_enqueued_total", "Jobs accepted.", ["queue", "job_name", "source"]),
    fixed=["source"],
)
UNIQUE_CONFLICTS = Bounded(
    Counter(
        "callboard_unique_conflicts_total",
        "Enqueues whose unique key was held, by result.",
        ["job_name", "result"],
    ),
    fixed=["result"],
)
JOBS_FINISHED = Bounded(
    Counter(
        "callboard_jobs_finished_total",
        "Attempts that ended, by outcome.",
        ["queue", "job_name", "outcome"],
    ),
    fixed=["outcome"],
)
JOB_RETRIES = Bounded(
    Counter(
        "callboard_job_retries_total",
        "Attempts that failed and will be tried again.",
        ["queue", "job_name"],
    )
)
JOBS_PUT_OFF = Bounded(
    Counter(
        "callboard_jobs_put_off_total",
        "Jobs that a worker put off because it does not know them, or their arguments do not fit.",
        ["queue", "reason"],
    ),
    fixed=["reason"],
)
JOB_VERSIONS_PUBLISHED = Counter(
    "callboard_job_versions_published_total",
    "Versions of job types that were published: new, or made the newest again.",
    ["change"],
)
JOB_LOG_LINES = Counter(
    "callboard_job_log_lines_total",
    "Lines that jobs logged: written, or dropped because there was no room.",
    ["result"],
)
LOG_LINES_DROPPED = Counter(
    "callboard_log_lines_dropped_total",
    "Lines of the process's own log that were dropped: nobody read them, or the disk was full.",
)
JOB_RESCUES = Bounded(
    Counter("callboard_job_rescues_total", "Jobs taken back from workers that died.", ["queue"])
)
CLAIMS_WITHOUT_TOKEN = Counter(
    "callboard_claims_without_token_total",
    "Jobs claimed directly from Postgres: Redis was away, or had no token of them.",
)
GRANTS = Bounded(
    Counter("callboard_grants_total", "Attempts granted within their queue's limits.", ["queue"])
)
JOB_CRASHES = Bounded(
    Counter("callboard_job_crashes_total", "Worker processes that a job killed.", ["queue", "job_name"])
)
JOBS_QUARANTINED = Bounded(
    Counter(
        "callboard_jobs_quarantined_total",
        "Jobs that are not run again because of their crashes.",
        ["queue", "job_name"],
    )
)
HARD_TIMEOUTS = Bounded(
    Counter(
        "callboard_hard_timeouts_total",
        "Processes killed because a job ran beyond its hard timeout, or did not stop after a forced cancel.",
        ["queue", "job_name"],
    )
)
SCHEMA_VERSION = Gauge(
    "callboard_schema_version",
    "The version of the tables, and the one that the program needs; 0: no tables.",
    ["of"],
    multiprocess_mode="livemostrecent",
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
THREAD_FAILURES = Counter(
    "callboard_thread_failures_total",
    "Threads of the platform that ended or failed unexpectedly. They are started again, or their process is.",
    ["thread"],
)
STATE_CHANGES = Counter(
    "callboard_worker_state_changes_total",
    "Changes that jobs made to their whole process: put back, or, as `replaced`, the process was replaced.",
    ["state"],
)
HOLDS = Counter(
    "callboard_worker_holds_total",
    "Times that a job held what all jobs of its worker process share: loop, interpreter.",
    ["kind"],
)
HELD_SECONDS = Counter(
    "callboard_worker_held_seconds_total",
    "How long jobs held what all jobs of their worker process share: loop, interpreter.",
    ["kind"],
)
JOB_WAIT = Bounded(
    BatchHistogram(
        "callboard_job_wait_seconds",
        "From when a job was due to its start.",
        ["queue"],
        buckets=_WAIT_BUCKETS,
    )
)
JOB_DURATION = Bounded(
    BatchHistogram(
        "callboard_job_duration_seconds",
        "From the start of an attempt to its end.",
        ["queue", "job_name"],
        buckets=_DURATION_BUCKETS,
    )
)
STORE_SECONDS = Bounded(
    Histogram(
        "callboard_store_seconds",
        "Calls to Postgres (statements or a transaction) and to Redis, failed ones too, by operation.",
        ["store", "operation"],
        buckets=_STORE_BUCKETS,
    ),
    fixed=["store", "operation"],
)
#: What a call to Postgres is for. Most calls outside the hot paths are a `transaction` or a `statement`.
PostgresOperation = Literal[
    "enqueue", "webhook", "claim", "finish", "job_log", "feed", "look", "transaction", "statement"
]
#: What a call to Redis is for. `wait` is a pop that waits for a token.
RedisOperation = Literal["push", "feed", "pop", "wait", "wake", "announce", "count", "other"]


def count_cancelled(jobs: Iterable[Cancelled]) -> None:
    """Count jobs that an operator cancelled. Their worker counts those that still run, when they stop."""
    for job in jobs:
        if job.state is JobState.CANCELLED:
            JOBS_FINISHED.labels(job.queue, job.name, Verb.CANCEL).inc()
