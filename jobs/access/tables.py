"""The table of API keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from callboard.jobs.postgres.table_base import NOW, Base


class ApiKeyRow(Base):
    """An API key for HTTP. Of its secret part, only the SHA-256 digest is stored."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[str]
    role: Mapped[str]
    #: The only queue that the key may use. Null: all queues.
    queue: Mapped[str | None]
    #: The only job that the key may enqueue and see. Null: all jobs.
    job: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        Index("api_keys_prefix_key", "prefix", unique=True),
        Index("api_keys_name_key", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
        CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role_known"),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
    )
