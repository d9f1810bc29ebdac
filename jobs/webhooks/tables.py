"""The tables of webhook sources and their deliveries."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import EMPTY_ARRAY, END_OF_TIMES, FIRST_TIME, NOW, Base


class WebhookSourceRow(Base):
    """An external system that may post to /webhooks/{name}, and the job that its deliveries become."""

    __tablename__ = "webhook_sources"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    scheme: Mapped[str]
    job: Mapped[str]
    #: The events that become jobs. Empty: all events.
    events: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    #: The signing secrets, each encrypted with CALLBOARD_SECRET_KEY. A signature by any of them is accepted.
    secrets: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        Index("webhook_sources_name_key", "name", unique=True),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("cardinality(secrets) BETWEEN 1 AND 5", name="secrets_count"),
        CheckConstraint(f"created_at >= {FIRST_TIME} AND created_at < {END_OF_TIMES}", name="times_readable"),
        CheckConstraint(
            "length(job) BETWEEN 1 AND 200"
            " AND CASE WHEN array_ndims(secrets) = 1 THEN array_position(secrets, NULL) IS NULL"
            " ELSE false END"
            " AND CASE WHEN array_ndims(events) = 1 THEN array_position(events, NULL) IS NULL"
            " ELSE cardinality(events) = 0 END",
            name="texts",
        ),
    )


class WebhookDeliveryRow(Base):
    """A verified delivery. The sender's id is unique for each source, so a repeated delivery has one row."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(ForeignKey(WebhookSourceRow.id, ondelete="CASCADE"))
    external_id: Mapped[str]
    event: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(server_default=NOW)
    body_sha256: Mapped[str]
    #: The job that the delivery became. Null when the source ignores the event.
    job_id: Mapped[UUID | None]
    #: How often the sender used the id again with another body, and when last.
    mismatch_count: Mapped[int] = mapped_column(server_default=text("0"))
    mismatched_at: Mapped[datetime | None]
    #: The raw body, when the job's arguments do not hold all of it.
    body: Mapped[bytes | None]

    __table_args__ = (
        Index("webhook_deliveries_source_external_key", "source_id", "external_id", unique=True),
        Index("webhook_deliveries_source_id", "source_id", "id"),
        Index("webhook_deliveries_received", "received_at"),
        Index("webhook_deliveries_mismatched", "id", postgresql_where=text("mismatch_count > 0")),
        CheckConstraint(
            "mismatch_count >= 0 AND (mismatch_count > 0) = (mismatched_at IS NOT NULL)", name="mismatches"
        ),
        CheckConstraint("length(external_id) BETWEEN 1 AND 200 AND length(event) <= 200", name="lengths"),
    )
