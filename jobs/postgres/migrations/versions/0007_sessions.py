"""The SQL function callboard.enqueue depends on nothing that its caller's session sets.

Revision: 0007
Follows: 0006
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ENQUEUE: Final = (
    f"{SCHEMA}.enqueue(text, jsonb, text, timestamptz, interval, int, text, text[], int, boolean, interval,"
    " text, text, interval, interval, timestamptz, interval, interval)"
)
#: The function does the same in any session: it calls functions and operators of pg_catalog only, a day of
#: `delay` has 24 hours, and min_backoff keeps all digits. Functions that it calls have these settings too.
_SETTINGS: Final = {
    "search_path": "pg_catalog, pg_temp",
    "timezone": "'UTC'",
    "extra_float_digits": "1",
}


def upgrade() -> None:
    for name, value in _SETTINGS.items():
        op.execute(f"ALTER FUNCTION {_ENQUEUE} SET {name} = {value}")


def downgrade() -> None:
    op.execute(f"ALTER FUNCTION {_ENQUEUE} RESET ALL")
