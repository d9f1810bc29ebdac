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
#: What the function means, in any session: nobody else's functions and operators, a day of 24 hours in
#: `delay`, all digits of min_backoff. The functions that it calls run with the same settings.
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
