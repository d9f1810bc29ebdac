"""Workers tell which of their claimed jobs have begun.

Revision: 0013
Follows: 0012
"""

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.workers ADD COLUMN begun uuid[], ADD COLUMN begun_at timestamptz")


def downgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.workers DROP COLUMN begun_at, DROP COLUMN begun")
