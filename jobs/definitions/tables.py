"""The tables of the work itself: jobs, their types, queues, workers."""

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import NOW, Base


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
