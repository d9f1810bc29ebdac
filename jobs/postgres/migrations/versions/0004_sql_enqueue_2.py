"""The SQL function callboard.enqueue takes every option that the other doors take.

Revision: 0004
Follows: 0003
"""

from pathlib import Path
from typing import Final

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SQL: Final = Path(__file__).parents[1] / "sql"
_FIRST: Final = "text, jsonb, text, timestamptz, interval, int, text, text[], int, boolean"
_SECOND: Final = f"{_FIRST}, interval, text, text, interval, interval, timestamptz, interval, interval"


def upgrade() -> None:
    # Two functions of one name, of which either takes the same call, would be ambiguous.
    op.execute(f"DROP FUNCTION callboard.enqueue({_FIRST})")
    _run((_SQL / "enqueue_v2.sql").read_text())


def downgrade() -> None:
    for signature in (f"enqueue({_SECOND})", "derived_key(jsonb, jsonb, jsonb)", "digest(text)"):
        op.execute(f"DROP FUNCTION callboard.{signature}")
    _, beginning, function = (_SQL / "enqueue_v1.sql").read_text().partition("-- Enqueue a job inside")
    _run(beginning + function)


def _run(script: str) -> None:
    # psycopg reads % as the beginning of a placeholder
    op.get_bind().exec_driver_sql(script.replace("%", "%%"))
