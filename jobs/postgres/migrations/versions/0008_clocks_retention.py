"""Ticks, deliveries and job types are pruned: each can be found by its age.

Revision: 0008
Follows: 0007
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_UP: Final = (
    f"CREATE INDEX schedule_ticks_decided ON {SCHEMA}.schedule_ticks (decided_at)",
    f"CREATE INDEX webhook_deliveries_received ON {SCHEMA}.webhook_deliveries (received_at)",
    f"ALTER TABLE {SCHEMA}.job_types ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now()",
)
_DOWN: Final = (
    f"ALTER TABLE {SCHEMA}.job_types DROP COLUMN seen_at",
    f"DROP INDEX {SCHEMA}.webhook_deliveries_received",
    f"DROP INDEX {SCHEMA}.schedule_ticks_decided",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
