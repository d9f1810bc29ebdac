"""Webhook deliveries keep a raw body; the SQL function refuses the same values as the other doors.

Revision: 0010
Follows: 0009
"""

from typing import Final

from alembic import op

from callboard.jobs.errors import Conflict
from callboard.jobs.postgres.sql import SCHEMA

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NUMBER: Final = """'strict $.** ? (@.type() == "number" && (@ > %s || @ < -%s))'"""
_INVALID: Final = "USING ERRCODE = 'invalid_parameter_value';"
_BEFORE: Final = f"""  IF jsonb_path_exists(enqueue.kwargs, {_NUMBER.replace("%s", "1.7e308")})
    OR octet_length(enqueue.kwargs::text) > 2097152 THEN
    RAISE EXCEPTION 'callboard: kwargs hold a number beyond the range of a double, or are longer than 2 MiB'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF jsonb_path_exists(enqueue.kwargs, 'strict $.**{{101 to last}}') THEN
    RAISE EXCEPTION 'callboard: kwargs are nested deeper than 100 levels' {_INVALID}
  END IF;
"""
_LARGE: Final = _NUMBER.replace("%s", "1.7976931348623157e308")
# An empty list or object is a level, too.
_DEEP: Final = """'strict $.**{%s} ? (@.type() == "array" || @.type() == "object")'"""
_AFTER: Final = f"""  IF octet_length(enqueue.kwargs::text) > 2097152 THEN
    RAISE EXCEPTION 'callboard: kwargs are longer than 2 MiB' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF jsonb_path_exists(enqueue.kwargs, {_LARGE}) THEN
    SELECT e.key INTO field FROM jsonb_each(enqueue.kwargs) AS e
      WHERE jsonb_path_exists(e.value, {_LARGE}) ORDER BY e.key LIMIT 1;
    RAISE EXCEPTION 'callboard: kwargs.% holds a number beyond the range of a double', left(field, 60)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'pass it as text';
  END IF;
  IF jsonb_path_exists(enqueue.kwargs, {_DEEP.replace("%s", "100")}) THEN
    SELECT e.key INTO field FROM jsonb_each(enqueue.kwargs) AS e
      WHERE jsonb_path_exists(e.value, {_DEEP.replace("%s", "99")}) ORDER BY e.key LIMIT 1;
    RAISE EXCEPTION 'callboard: kwargs.% is nested deeper than 100 levels', left(field, 60)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
"""
# The function is changed in place: its other parts and its settings stay.
_FUNCTION: Final = f"""
SELECT pg_get_functiondef(p.oid) FROM pg_proc p
WHERE p.proname = 'enqueue' AND p.pronamespace = '{SCHEMA}'::regnamespace
"""


def upgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.webhook_deliveries ADD COLUMN body bytea")
    _change(_BEFORE, _AFTER)


def downgrade() -> None:
    _change(_AFTER, _BEFORE)
    op.execute(f"ALTER TABLE {SCHEMA}.webhook_deliveries DROP COLUMN body")


def _change(before: str, after: str) -> None:
    """Replace a part of the function's text. Raises Conflict unless one function has it once."""
    connection = op.get_bind()
    # Somebody may have added functions of the same name.
    found = [one for one in connection.exec_driver_sql(_FUNCTION).scalars() if one.count(before) == 1]
    if len(found) != 1:
        raise Conflict("the SQL function enqueue was changed by hand; restore the one of version 0009 first")
    # psycopg reads % as the start of a placeholder.
    connection.exec_driver_sql(found[0].replace(before, after).replace("%", "%%"))
