"""The tables of workers and of the log lines of jobs."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.enqueue.tables import JobRow
from callboard.jobs.postgres.table_base import EMPTY_ARRAY, NOW, Base


class JobLogRow(Base):
    """A line that an attempt logged. It is deleted with its job. The newest lines of an attempt are kept."""

    __tablename__ = "job_logs"

    job_id: Mapped[UUID] = mapped_column(ForeignKey(JobRow.id, ondelete="CASCADE"), primary_key=True)
    #: The attempt's epoch. An attempt that was handed back does not count, so the next attempt has the same
    #: number, but another epoch.
    epoch: Mapped[int] = mapped_column(primary_key=True)
    #: The line's number within the attempt, from 1.
    line: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    logged_at: Mapped[datetime]
    level: Mapped[str]
    logger: Mapped[str]
    message: Mapped[str]

    __table_args__ = (
        CheckConstraint(
            "length(level) <= 20 AND length(logger) <= 200 AND length(message) <= 4000", name="lengths"
        ),
    )


class WorkerRow(Base):
    """A worker process and its lease.

    Without a row, or with a lease that has run out, the worker can claim nothing.
    """

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    #: The queues that it serves, in order of preference. Empty: all queues.
    queues: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    job_names: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    #: The versions that it runs, as name@digest. NULL: a worker of a release before versions.
    job_versions: Mapped[list[str] | None]
    threads: Mapped[int]
    slots: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    lease_expires_at: Mapped[datetime]
    draining_since: Mapped[datetime | None]
    #: The job that holds the event loop or the interpreter of the process: NULL while none does, or while it
    #: may be one of several. No foreign key: the job may be deleted.
    holder_job_id: Mapped[UUID | None]
    #: 'loop' or 'interpreter'; NULL while neither is held.
    hold_kind: Mapped[str | None]
    held_since: Mapped[datetime | None]
    #: The jobs that had begun and not ended when the supervisor looked last. NULL: nobody has looked.
    begun: Mapped[list[UUID] | None]
    begun_at: Mapped[datetime | None]

    __table_args__ = (
        Index("workers_lease", "lease_expires_at"),
        CheckConstraint("hold_kind IN ('loop', 'interpreter')", name="hold_kind"),
    )
