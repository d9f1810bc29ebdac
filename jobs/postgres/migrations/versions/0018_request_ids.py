"""A job keeps the id of the HTTP request that it began with.

The column has no CHECK, which each enqueue would pay for. Processes of the release before leave it null.

Revision: 0018
Follows: 0017
"""

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.jobs ADD COLUMN request_id varchar(128)")


def downgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.jobs DROP COLUMN request_id")
