"""Ticks, deliveries and job types are pruned: each can be found by its age.

Revision: 0008
Follows: 0007
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.migrations.indexes import create_index, drop_index
from callboard.jobs.postgres.sql import SCHEMA

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INDEXES: Final = {
    "schedule_ticks_decided": "schedule_ticks (decided_at)",
    "webhook_deliveries_received": "webhook_deliveries (received_at)",
}


def upgrade() -> None:
    for name, place in _INDEXES.items():
        create_index(name, place)
    op.execute(f"ALTER TABLE {SCHEMA}.job_types ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now()")


def downgrade() -> None:
    for name in _INDEXES:
        drop_index(name)
    op.execute(f"ALTER TABLE {SCHEMA}.job_types DROP COLUMN seen_at")
