"""API keys can be restricted to a job; webhook deliveries count different bodies under the same id.

Revision: 0006
Follows: 0005
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_UP: Final = (
    f"ALTER TABLE {SCHEMA}.api_keys ADD COLUMN job text",
    f"""ALTER TABLE {SCHEMA}.webhook_deliveries
        ADD COLUMN mismatch_count integer NOT NULL DEFAULT 0,
        ADD COLUMN mismatched_at timestamptz,
        ADD CONSTRAINT webhook_deliveries_mismatches
          CHECK (mismatch_count >= 0 AND (mismatch_count > 0) = (mismatched_at IS NOT NULL))""",
    f"CREATE INDEX webhook_deliveries_source_id ON {SCHEMA}.webhook_deliveries (source_id, id)",
    f"""CREATE INDEX webhook_deliveries_mismatched ON {SCHEMA}.webhook_deliveries (id)
        WHERE mismatch_count > 0""",
)
_DOWN: Final = (
    f"DROP INDEX {SCHEMA}.webhook_deliveries_mismatched",
    f"DROP INDEX {SCHEMA}.webhook_deliveries_source_id",
    f"ALTER TABLE {SCHEMA}.webhook_deliveries DROP COLUMN mismatch_count, DROP COLUMN mismatched_at",
    # Without the column, the previous release would accept such a key for every job.
    f"UPDATE {SCHEMA}.api_keys SET revoked_at = now() WHERE job IS NOT NULL AND revoked_at IS NULL",
    f"ALTER TABLE {SCHEMA}.api_keys DROP COLUMN job",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWN:
        op.execute(statement)
