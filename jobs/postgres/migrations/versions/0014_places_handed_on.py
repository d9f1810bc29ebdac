"""A limited queue tells whether what runs is within its limits.

While it is, the worker that ends a job hands its place on to the next job. A trigger sets the column to false
when limits are set, because an earlier release and a change by hand do not. The feeder counts and sets it to
true.

Revision: 0014
Follows: 0013
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


_FUNCTION: Final = f"""
CREATE FUNCTION {SCHEMA}.limits_are_new() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  NEW.within_limits := false;
  RETURN NEW;
END
$$
"""
_TRIGGER: Final = f"""
CREATE TRIGGER queues_limits BEFORE UPDATE OF concurrency, rate, rate_period, key_concurrency, key_rate,
  key_rate_period ON {SCHEMA}.queues FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.limits_are_new()
"""


def upgrade() -> None:
    op.execute(f"ALTER TABLE {SCHEMA}.queues ADD COLUMN within_limits boolean NOT NULL DEFAULT false")
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)
    op.execute(f"DROP INDEX {SCHEMA}.grants_queue")
    op.execute(f"CREATE INDEX grants_queue ON {SCHEMA}.grants (queue, started_at, granted_at)")


def downgrade() -> None:
    op.execute(f"DROP INDEX {SCHEMA}.grants_queue")
    op.execute(f"CREATE INDEX grants_queue ON {SCHEMA}.grants (queue, started_at)")
    op.execute(f"DROP TRIGGER queues_limits ON {SCHEMA}.queues")
    op.execute(f"DROP FUNCTION {SCHEMA}.limits_are_new()")
    op.execute(f"ALTER TABLE {SCHEMA}.queues DROP COLUMN within_limits")
