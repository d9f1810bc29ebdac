"""Webhook deliveries keep a raw body; the SQL function refuses the same values as the other doors.

Revision: 0010
Follows: 0008
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

#: The checks of callboard.enqueue that change: the text before, and after.
_CHECKS: Final = (
    # A number is refused exactly when it is beyond the range of a double.
    ("(@ > 1.7e308 || @ < -1.7e308)", "(@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308)"),
    # An empty list or object is a level too.
    (
        "'strict $.**{101 to last}'",
        """'strict $.**{100} ? (@.type() == "array" || @.type() == "object")'""",
    ),
)
# The function is changed as it is, so that its other parts and its settings stay.
_FUNCTION: Final = f"""
SELECT pg_get_functiondef(p.oid) FROM pg_proc p
WHERE p.proname = 'enqueue' AND p.pronamespace = '{SCHEMA}'::regnamespace
"""


def upgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.webhook_deliveries ADD COLUMN body bytea")
    _change(_CHECKS)


def downgrade() -> None:
    _change([(after, before) for before, after in _CHECKS])
    op.execute(f"ALTER TABLE {SCHEMA}.webhook_deliveries DROP COLUMN body")


def _change(parts: "tuple[tuple[str, str], ...] | list[tuple[str, str]]") -> None:
    """Replace these parts of the function's text. Raises RuntimeError when it has not exactly one of each."""
    connection = op.get_bind()
    [definition] = connection.exec_driver_sql(_FUNCTION).scalars()
    for before, after in parts:
        if definition.count(before) != 1:
            raise RuntimeError(f"the function {SCHEMA}.enqueue does not have the text {before!r}")
        definition = definition.replace(before, after)
    # psycopg reads % as the start of a placeholder.
    connection.exec_driver_sql(definition.replace("%", "%%"))
