"""Workers tell which job holds their event loop or their interpreter.

Revision: 0011
Follows: 0010
"""

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        f"ALTER TABLE {SCHEMA}.workers ADD COLUMN holder_job_id uuid, ADD COLUMN hold_kind text,"
        " ADD COLUMN held_since timestamptz,"
        " ADD CONSTRAINT workers_hold_kind CHECK (hold_kind IN ('loop', 'interpreter'))"
    )


def downgrade() -> None:
    op.execute(
        f"ALTER TABLE {SCHEMA}.workers DROP CONSTRAINT workers_hold_kind,"
        " DROP COLUMN held_since, DROP COLUMN hold_kind, DROP COLUMN holder_job_id"
    )
