"""The tables of job types and of their versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import NOW, Base


class JobTypeRow(Base):
    """The newest version of a job type. Programs of releases before versions write and read it, too."""

    __tablename__ = "job_types"

    name: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    #: JSON Schema of the arguments, as signatures.py makes it.
    schema: Mapped[dict[str, Any]]
    #: What an enqueue uses for the options that it does not set: priority, max_attempts, timeout and
    #: hard_timeout (seconds or null), unique, limit_by.
    defaults: Mapped[dict[str, Any]]
    doc: Mapped[str] = mapped_column(server_default=text("''"))
    published_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: When a live worker last had the job, to within a day.
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)


class JobVersionRow(Base):
    """A version of a job type. A worker that has its code writes the row when it starts."""

    __tablename__ = "job_versions"

    name: Mapped[str] = mapped_column(ForeignKey(JobTypeRow.name, ondelete="CASCADE"), primary_key=True)
    #: A hash of queue, schema and defaults, made by the SQL function version_digest.
    digest: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    schema: Mapped[dict[str, Any]]
    defaults: Mapped[dict[str, Any]]
    doc: Mapped[str] = mapped_column(server_default=text("''"))
    #: The module that defines the job. NULL: a release that did not tell it published the version.
    module: Mapped[str | None]
    #: When it became the newest version: by its first publication, or by `callboard job publish`.
    published_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: When it was last published, or when its last worker ended.
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    #: Until then it counts as live without a worker: it was announced, or its worker may come back.
    counts_until: Mapped[datetime | None]
