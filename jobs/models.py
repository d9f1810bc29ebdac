"""The tables, all in the Postgres schema `callboard`. Migrations are checked to equal what stands here."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Interval, MetaData, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.states import ACTIVE, PENDING, TERMINAL, JobState

SCHEMA: Final = "callboard"

_NAMING: Final = {
    "ix": "%(table_name)s_%(column_0_N_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}


def in_states(states: frozenset[JobState]) -> str:
    """A SQL condition on `state`, its values in the order of JobState."""
    return "state IN (" + ", ".join(f"'{state}'" for state in JobState if state in states) + ")"


class Base(DeclarativeBase):
    """What all tables share: one schema, named constraints, aware times, jsonb."""

    metadata = MetaData(schema=SCHEMA, naming_convention=_NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to say it
        datetime: TIMESTAMP(timezone=True),
        timedelta: Interval(),
        str: Text(),
        UUID: PG_UUID(as_uuid=True),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
        list[str]: ARRAY(Text()),
        float: REAL(),
    }


_NOW: Final = text("now()")
_EMPTY_OBJECT: Final = text("'{}'::jsonb")
_EMPTY_LIST: Final = text("'[]'::jsonb")
_EMPTY_ARRAY: Final = text("'{}'::text[]")


class JobRow(Base):
    """A job. Its state is written by the verbs of `jobs/repositories/jobs.py` alone."""

    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    queue: Mapped[str]
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("5"))
    args: Mapped[list[Any]] = mapped_column(server_default=_EMPTY_LIST)
    kwargs: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    #: Attempts begun that count: a claim adds one; snooze, hand_back and rescue give it back.
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int]
    crash_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: The fence: whoever writes to a job names the epoch it knows; claim, stage, hand_back, rescue and rerun add one.
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    run_at: Mapped[datetime]
    enqueued_at: Mapped[datetime] = mapped_column(server_default=_NOW)
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
    errors: Mapped[list[Any]] = mapped_column(server_default=_EMPTY_LIST)
    unique_key: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(server_default=_EMPTY_ARRAY)
    source: Mapped[str]
    source_id: Mapped[str | None]
    timeout: Mapped[timedelta | None]

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
            "attempt >= 0 AND max_attempts >= 1 AND crash_count >= 0 AND epoch >= 0", name="counts"
        ),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress_range"),
        CheckConstraint("length(name) BETWEEN 1 AND 200 AND length(queue) BETWEEN 1 AND 100", name="names"),
        CheckConstraint("length(unique_key) BETWEEN 1 AND 200", name="unique_key_length"),
        CheckConstraint("jsonb_typeof(args) = 'array' AND jsonb_typeof(kwargs) = 'object'", name="arguments"),
        CheckConstraint(
            "source IN ('cli', 'http', 'webhook', 'schedule', 'python', 'sql', 'job')", name="source_known"
        ),
        # What is queued, in the order in which it is fed; what is due; what runs, by worker.
        Index("jobs_queued", "queue", "priority", "run_at", "id", postgresql_where=text("state = 'queued'")),
        Index("jobs_due", "run_at", "id", postgresql_where=text("state IN ('scheduled', 'retrying')")),
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
    published_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class QueueRow(Base):
    """A queue; a row comes to be with the first job or worker that names it."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)

    __table_args__ = (CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),)


class WorkerRow(Base):
    """A worker process and its lease. No row, or a lease that has run out: nothing it writes counts."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    #: The queues it serves in order of preference; empty means all.
    queues: Mapped[list[str]] = mapped_column(server_default=_EMPTY_ARRAY)
    job_names: Mapped[list[str]] = mapped_column(server_default=_EMPTY_ARRAY)
    threads: Mapped[int]
    slots: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    lease_expires_at: Mapped[datetime]
    draining_since: Mapped[datetime | None]

    __table_args__ = (Index("workers_lease", "lease_expires_at"),)


class ScheduleRow(Base):
    """When to enqueue what. Exactly one of cron, every and at is set."""

    __tablename__ = "schedules"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    job: Mapped[str]
    queue: Mapped[str | None]
    priority: Mapped[int | None] = mapped_column(SmallInteger)
    args: Mapped[list[Any]] = mapped_column(server_default=_EMPTY_LIST)
    kwargs: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    cron: Mapped[str | None]
    every: Mapped[timedelta | None]
    at: Mapped[datetime | None]
    timezone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    dst_gap: Mapped[str] = mapped_column(server_default=text("'shift'"))
    overlap: Mapped[str] = mapped_column(server_default=text("'skip'"))
    catchup: Mapped[str] = mapped_column(server_default=text("'latest'"))
    catchup_window: Mapped[timedelta] = mapped_column(server_default=text("'01:00:00'::interval"))
    paused_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    #: The next tick's nominal time; null when paused or when no tick is left.
    next_fire_at: Mapped[datetime | None]
    last_fire_at: Mapped[datetime | None]
    #: The job of the last tick that fired: what `overlap` is judged on.
    last_job_id: Mapped[UUID | None]

    __table_args__ = (
        Index("schedules_name_key", "name", unique=True),
        Index("schedules_due", "next_fire_at", postgresql_where=text("next_fire_at IS NOT NULL")),
        CheckConstraint("num_nonnulls(cron, every, at) = 1", name="one_rule"),
        CheckConstraint("dst_gap IN ('shift', 'skip')", name="dst_gap_known"),
        CheckConstraint("overlap IN ('skip', 'allow_all')", name="overlap_known"),
        CheckConstraint("catchup IN ('latest', 'none')", name="catchup_known"),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
    )


class ScheduleTickRow(Base):
    """One tick of a schedule: the primary key is what makes it one, however many schedulers run."""

    __tablename__ = "schedule_ticks"

    schedule_id: Mapped[UUID] = mapped_column(
        ForeignKey(ScheduleRow.id, ondelete="CASCADE"), primary_key=True
    )
    nominal_at: Mapped[datetime] = mapped_column(primary_key=True)
    decided_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    #: fired | caught_up | skipped (its predecessor still runs) | missed (too late to catch up)
    result: Mapped[str]
    reason: Mapped[str | None]
    job_id: Mapped[UUID | None]

    __table_args__ = (
        CheckConstraint("result IN ('fired', 'caught_up', 'skipped', 'missed')", name="result_known"),
        CheckConstraint("(job_id IS NOT NULL) = (result IN ('fired', 'caught_up'))", name="job_when_fired"),
    )


class WebhookSourceRow(Base):
    """An external system that may post to /webhooks/{name}, and the job its deliveries become."""

    __tablename__ = "webhook_sources"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    scheme: Mapped[str]
    job: Mapped[str]
    #: Events that become jobs; empty means all.
    events: Mapped[list[str]] = mapped_column(server_default=_EMPTY_ARRAY)
    #: Signing secrets, each encrypted with the platform's secret key; every one of them verifies.
    secrets: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)

    __table_args__ = (
        Index("webhook_sources_name_key", "name", unique=True),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("cardinality(secrets) BETWEEN 1 AND 5", name="secrets_count"),
    )


class WebhookDeliveryRow(Base):
    """A verified request; the sender's own id makes it one, however often it is sent."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(ForeignKey(WebhookSourceRow.id, ondelete="CASCADE"))
    external_id: Mapped[str]
    event: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    body_sha256: Mapped[str]
    #: The job that the delivery became; none when the source does not listen to the event.
    job_id: Mapped[UUID | None]

    __table_args__ = (
        Index("webhook_deliveries_source_external_key", "source_id", "external_id", unique=True),
        CheckConstraint("length(external_id) BETWEEN 1 AND 200 AND length(event) <= 200", name="lengths"),
    )


class ApiKeyRow(Base):
    """A key for HTTP. Only the SHA-256 digest of its secret part is kept."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[str]
    role: Mapped[str]
    #: The one queue the key is confined to; null means all.
    queue: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        Index("api_keys_prefix_key", "prefix", unique=True),
        Index("api_keys_name_key", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
        CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role_known"),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
    )
