"""The tables of jobs, and of unique keys that are held for a period."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.model.states import ACTIVE, PENDING, TERMINAL, JobState
from callboard.jobs.postgres.sql import URGENCY, in_states
from callboard.jobs.postgres.table_base import EMPTY_ARRAY, EMPTY_LIST, EMPTY_OBJECT, NOW, Base


class JobRow(Base):
    """A job. Its state changes only as TRANSITIONS in jobs/model/states.py says."""

    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    queue: Mapped[str]
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("5"))
    args: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    kwargs: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    #: The number of started attempts that count: a claim adds 1; snooze, hand_back and rescue subtract 1.
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int]
    crash_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: The fence: a write to a job names the epoch that the writer knows, and fails when it has changed.
    #: Claim, stage, hand_back, rescue and rerun add 1.
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    run_at: Mapped[datetime]
    enqueued_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    worker_id: Mapped[UUID | None]
    #: The id of the last claim. A worker that lost the reply to its commit finds the jobs it claimed by this
    #: id.
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
    #: The worker child that runs an attempt is killed after this time.
    hard_timeout: Mapped[timedelta | None]
    #: Options that are rarely set: the bounds of the retry delay, and the options of a Dramatiq message.
    options: Mapped[dict[str, Any] | None]
    #: The queue's limits for each key count the job under this key, such as a tenant.
    limit_key: Mapped[str | None]
    #: True: kill the worker child when the job does not stop after a cancel request.
    cancel_forced: Mapped[bool] = mapped_column(server_default=text("false"))
    #: The number of crashes that this job may have caused: it was one of several jobs that were running.
    suspected: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: True: run the job alone, in a worker child of its own.
    solo: Mapped[bool] = mapped_column(server_default=text("false"))
    #: How often workers put the job off because their code does not have the job or does not accept its
    #: arguments, and the latest reason.
    put_off: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    put_off_reason: Mapped[str | None]
    #: The id of the HTTP request that the job began with: that of its enqueue, or of its parent job.
    request_id: Mapped[str | None] = mapped_column(String(128))

    __table_args__ = (
        CheckConstraint(in_states(frozenset(JobState)), name="state_known"),
        CheckConstraint(
            f"(finished_at IS NOT NULL) = ({in_states(TERMINAL)})", name="finished_when_terminal"
        ),
        CheckConstraint(
            "state <> 'running'"
            " OR (worker_id IS NOT NULL AND claim_id IS NOT NULL AND started_at IS NOT NULL)",
            name="running_has_worker",
        ),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
        CheckConstraint(
            "attempt >= 0 AND max_attempts >= 1 AND crash_count >= 0 AND epoch >= 0 AND suspected >= 0"
            " AND put_off >= 0",
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
        # Queued jobs in the order in which the feeder reads them; jobs that become due.
        Index("jobs_queued", "queue", text(f"({URGENCY})"), "id", postgresql_where=text("state = 'queued'")),
        Index("jobs_due", "run_at", "id", postgresql_where=text("state IN ('scheduled', 'retrying')")),
        # Queued jobs by limit_key, for limits by key; queued jobs that run alone; jobs that were put off;
        # running jobs, by worker; jobs that can expire.
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
        # Terminal jobs: for the pruner, and for lists of unsuccessful jobs. A job enters these indexes once.
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
        # Summaries of blocks: which names and queues their jobs have. Jobs whose id tells another time.
        Index(
            "jobs_names",
            "name",
            "queue",
            postgresql_using="brin",
            postgresql_ops={"name": "text_bloom_ops", "queue": "text_bloom_ops"},
            postgresql_where=text("state <> 'running'"),
            postgresql_with={"pages_per_range": 32, "autosummarize": "on"},
        ),
        Index("jobs_tags", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'::text[]")),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": "0.02",
                "autovacuum_analyze_scale_factor": "0.05",
            }
        },
    )


class UniqueHoldRow(Base):
    """A unique key that is held until a time, even after the end of its job."""

    __tablename__ = "unique_holds"

    key: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey(JobRow.id, ondelete="CASCADE"))
    until: Mapped[datetime]

    __table_args__ = (
        Index("unique_holds_job", "job_id"),
        Index("unique_holds_until", "until"),
        CheckConstraint("length(key) BETWEEN 1 AND 200", name="key_length"),
    )
