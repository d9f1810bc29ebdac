"""A function that adds the row of a new queue. An enqueue calls it only if the row is missing.

Revision: 0017
Follows: 0016
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# It returns whether the queue has limits. A new queue has none.
_FUNCTION: Final = f"""
CREATE FUNCTION {SCHEMA}.add_queue(queue text) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
INSERT INTO {SCHEMA}.queues (name) VALUES (queue) ON CONFLICT DO NOTHING;
SELECT false
$$
"""


def upgrade() -> None:
    op.execute(_FUNCTION)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SCHEMA}.add_queue(text)")
