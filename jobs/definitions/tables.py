"""The table of job types."""

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import NOW, Base


class JobTypeRow(Base):
    """A job type. A worker that has the job's code writes the row when it starts."""

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
