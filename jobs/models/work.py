"""The tables of the work itself: jobs, their types, queues, workers."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Computed, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.base import EMPTY_ARRAY, EMPTY_LIST, EMPTY_OBJECT, NOW, URGENCY, Base, in_states
from jobs.states import ACTIVE, PENDING, TERMINAL, JobState


class JobRow(Base):
    """A job. Its state is written by the verbs of `job_enqueue.py`, `jobs.py` and `job_moves.py` in `jobs/repositories` alone."""

    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    queue: Mapped[str]
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("5"))
    args: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    kwargs: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    #: Attempts begun that count: a claim adds one; snooze, hand_back and rescue give it back.
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int]
    crash_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: The fence: whoever writes to a job names the epoch it knows; claim, stage, hand_back, rescue and rerun add one.
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    run_at: Mapped[datetime]
    enqueued_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    worker_id: Mapped[UUID | None]
    #: One claim's mark, by which a worker whose commit reply was lost finds what it claimed.
    claim_id: Mapped[UUID | None]
    progress: Mapped[float | None]
    progress_note: Mapped[str | None]
    result: Mapped[Any | None] = mapped_column(JSONB)
    #: One entry for each failed attempt: attempt, at, class, message, traceback, worker.
    errors: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    unique_key: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    source: Mapped[str]
    source_id: Mapped[str | None]
    timeout: Mapped[timedelta | None]
    #: After this the child that runs the attempt is killed.
    hard_timeout: Mapped[timedelta | None]
    #: What the enqueue asked for that is rarely asked: back-off bounds, and a Dramatiq message's own options.
    options: Mapped[dict[str, Any] | None]
    #: Whose limits within its queue the job counts towards, such as a tenant's.
    limit_key: Mapped[str | None]
    #: A cancellation that kills the child when the job does not heed it.
    cancel_forced: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Crashes that this job or another that ran beside it has caused; which of them shows when it runs alone.
    suspected: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: To be run alone, in a child of its own.
    solo: Mapped[bool] = mapped_column(server_default=text("false"))
    #: How often, and why last, a worker put the job off that does not know it or its arguments.
    put_off: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    put_off_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint(in_states(frozenset(JobState)), name="state_known"),
        CheckConstraint(
            f"(finished_at IS NOT NULL) = ({in_states(TERMINAL)})", name="finished_when_terminal"
        ),
        CheckConstraint(
            "state <> 'running' OR (worker_id IS NOT NULL AND claim_id IS NOT NULL AND started_at IS NOT NULL)",
            name="running_has_worker",
        ),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
        CheckConstraint(
            "attempt >= 0 AND max_attempts >= 1 AND crash_count >= 0 AND epoch >= 0 AND suspected >= 0 AND put_off >= 0",
            name="counts",
        ),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress_range"),
        CheckConstraint("length(name) BETWEEN 1 AND 200 AND length(queue) BETWEEN 1 AND 100", name="names"),
        CheckConstraint("length(unique_key) BETWEEN 1 AND 200", name="unique_key_length"),
        CheckConstraint("length(limit_key) BETWEEN 1 AND 200", name="limit_key_length"),
        CheckConstraint("jsonb_typeof(args) = 'array' AND jsonb_typeof(kwargs) = 'object'", name="arguments"),
        CheckConstraint(
            "source IN ('cli', 'http', 'webhook', 'schedule', 'python', 'sql', 'job')", name="source_known"
        ),
        # What is queued, in the order in which it is fed; what is due; what runs, by worker.
        Index("jobs_queued", "queue", text(f"({URGENCY})"), "id", postgresql_where=text("state = 'queued'")),
        Index("jobs_due", "run_at", "id", postgresql_where=text("state IN ('scheduled', 'retrying')")),
        # The same by key, where limits count by key; and those that run alone.
        Index(
            "jobs_keyed",
            "queue",
            "limit_key",
            text(f"({URGENCY})"),
            "id",
            postgresql_where=text("state = 'queued' AND limit_key IS NOT NULL"),
        ),
        Index("jobs_solo", "queue", "id", postgresql_where=text("state = 'queued' AND solo")),
        Index("jobs_put_off", "name", "id", postgresql_where=text(f"put_off > 0 AND {in_states(PENDING)}")),
        Index("jobs_running", "worker_id", "id", postgresql_where=text("state = 'running'")),
        Index(
            "jobs_expiring",
            "expires_at",
            postgresql_where=text(f"expires_at IS NOT NULL AND {in_states(PENDING)}"),
        ),
        # Retention, and the lists of what went wrong; a job enters these once, at its end.
        Index("jobs_finished", "finished_at", "id", postgresql_where=text(in_states(TERMINAL))),
        Index(
            "jobs_unsuccessful",
            "state",
            "id",
            postgresql_where=text(in_states(TERMINAL - {JobState.SUCCEEDED})),
        ),
        Index(
            "jobs_unique_active",
            "unique_key",
            unique=True,
            postgresql_where=text(f"unique_key IS NOT NULL AND {in_states(ACTIVE)}"),
        ),
        Index("jobs_tags", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'::text[]")),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": "0.02",
                "autovacuum_analyze_scale_factor": "0.05",
            }
        },
    )


class JobTypeRow(Base):
    """A kind of job, as the workers that know it published it at boot."""

    __tablename__ = "job_types"

    name: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    #: JSON Schema of the arguments (see jobs/arguments.py).
    schema: Mapped[dict[str, Any]]
    #: What an enqueue takes when it does not say otherwise: priority, max_attempts, timeout (seconds or null).
    defaults: Mapped[dict[str, Any]]
    doc: Mapped[str] = mapped_column(server_default=text("''"))
    published_at: Mapped[datetime] = mapped_column(server_default=NOW)


class QueueRow(Base):
    """A queue; a row comes to be with the first job or worker that names it."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: How many jobs may run at once, and how many may start within `rate_period`; of the queue, and of each limit_key.
    concurrency: Mapped[int | None]
    rate: Mapped[int | None]
    rate_period: Mapped[timedelta | None]
    key_concurrency: Mapped[int | None]
    key_rate: Mapped[int | None]
    key_rate_period: Mapped[timedelta | None]
    #: Whether a job of the queue needs a grant to start.
    limited: Mapped[bool] = mapped_column(
        Computed("num_nonnulls(concurrency, rate, key_concurrency, key_rate) > 0", persisted=True)
    )

    __table_args__ = (
        Index("queues_limited", "name", postgresql_where=text("limited")),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint(
            "least(concurrency, rate, key_concurrency, key_rate) >= 1"
            " AND greatest(concurrency, rate, key_concurrency, key_rate) <= 1000000",
            name="limits_range",
        ),
        CheckConstraint(
            "(rate IS NULL) = (rate_period IS NULL) AND (key_rate IS NULL) = (key_rate_period IS NULL)",
            name="rates_whole",
        ),
    )


class WorkerRow(Base):
    """A worker process and its lease. No row, or a lease that has run out: nothing it writes counts."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    #: The queues it serves in order of preference; empty means all.
    queues: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    job_names: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    threads: Mapped[int]
    slots: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    lease_expires_at: Mapped[datetime]
    draining_since: Mapped[datetime | None]

    __table_args__ = (Index("workers_lease", "lease_expires_at"),)
