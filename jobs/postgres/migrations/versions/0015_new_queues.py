"""A new queue notifies the feeder, which tells the workers at once.

Revision: 0015
Follows: 0014
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# The channel is that of `jobs/postgres/notices.py`.
_FUNCTION: Final = f"""
CREATE FUNCTION {SCHEMA}.queue_is_new() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('{SCHEMA}_queued', NEW.name);
  RETURN NULL;
END
$$
"""
_TRIGGER: Final = f"""
CREATE TRIGGER queues_new AFTER INSERT ON {SCHEMA}.queues
FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.queue_is_new()
"""


def upgrade() -> None:
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.execute(f"DROP TRIGGER queues_new ON {SCHEMA}.queues")
    op.execute(f"DROP FUNCTION {SCHEMA}.queue_is_new()")
