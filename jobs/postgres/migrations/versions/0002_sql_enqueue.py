"""The SQL function callboard.enqueue.

Revision: 0002
Follows: 0001
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    script = Path(__file__).parents[1] / "sql" / "enqueue_v1.sql"
    # psycopg reads % as the beginning of a placeholder
    op.get_bind().exec_driver_sql(script.read_text().replace("%", "%%"))


def downgrade() -> None:
    for signature in (
        "enqueue(text, jsonb, text, timestamptz, interval, int, text, text[], int, boolean)",
        "misfit(jsonb, jsonb)",
        "uuid7()",
    ):
        op.execute(f"DROP FUNCTION callboard.{signature}")
