"""The tables of the doors: schedules and their ticks, webhooks, API keys."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.base import EMPTY_ARRAY, EMPTY_LIST, EMPTY_OBJECT, NOW, Base


class ScheduleRow(Base):
    """When to enqueue what. Exactly one of cron, every and at is set."""

    __tablename__ = "schedules"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    job: Mapped[str]
    queue: Mapped[str | None]
    priority: Mapped[int | None] = mapped_column(SmallInteger)
    args: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    kwargs: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    cron: Mapped[str | None]
    every: Mapped[timedelta | None]
    at: Mapped[datetime | None]
    timezone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    dst_gap: Mapped[str] = mapped_column(server_default=text("'shift'"))
    overlap: Mapped[str] = mapped_column(server_default=text("'skip'"))
    catchup: Mapped[str] = mapped_column(server_default=text("'latest'"))
    catchup_window: Mapped[timedelta] = mapped_column(server_default=text("'01:00:00'::interval"))
    paused_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    decided_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    events: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    #: Signing secrets, each encrypted with the platform's secret key; every one of them verifies.
    secrets: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

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
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        Index("api_keys_prefix_key", "prefix", unique=True),
        Index("api_keys_name_key", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
        CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role_known"),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
    )
