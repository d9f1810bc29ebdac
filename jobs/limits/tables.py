"""The table of grants."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import Base


class GrantRow(Base):
    """The permission for one attempt to start within the limits of its queue.

    The claim sets `started_at`. After that, the row is kept as long as a rate counts the start. There is no
    foreign key to the job: the start of a deleted job still counts.
    """

    __tablename__ = "grants"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    queue: Mapped[str]
    limit_key: Mapped[str | None]
    granted_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    started_at: Mapped[datetime | None]
    #: The number of starts that the row counts: many starts of the past are merged into one row.
    uses: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        Index("grants_queue", "queue", "started_at", "granted_at"),
        Index(
            "grants_keyed", "queue", "limit_key", "started_at", postgresql_where=text("limit_key IS NOT NULL")
        ),
    )
