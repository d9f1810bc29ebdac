"""Schedules, queues and webhook sources hold only values that the code can read.

Each constraint is added without a look at the rows that exist, and then validated. If a row does not meet it,
it stays not valid: the upgrade succeeds, and only new and changed rows are checked. These tables are small,
so both steps are in one migration.

Revision: 0009
Follows: 0008
"""

from typing import Final

from alembic import op

from callboard.jobs.postgres.sql import SCHEMA

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_FIRST: Final = "'0001-01-01 00:00:00+00'::timestamptz"
_END: Final = "'10000-01-01 00:00:00+00'::timestamptz"
_TEN_YEARS: Final = "'3900 days'::interval"

#: Table, name of the constraint, condition.
_CHECKS: Final = (
    (
        "schedules",
        "times_readable",
        (
            f"least(at, paused_at, created_at, next_fire_at, last_fire_at) >= {_FIRST}"
            f" AND greatest(at, paused_at, created_at, next_fire_at, last_fire_at) < {_END}"
        ),
    ),
    (
        "schedules",
        "spans_range",
        (
            f"every > '0'::interval AND every <= {_TEN_YEARS}"
            f" AND catchup_window >= '0'::interval AND catchup_window <= {_TEN_YEARS}"
        ),
    ),
    ("schedules", "arguments", "jsonb_typeof(args) = 'array' AND jsonb_typeof(kwargs) = 'object'"),
    (
        "schedules",
        "texts",
        (
            "length(job) BETWEEN 1 AND 200 AND length(queue) BETWEEN 1 AND 100"
            " AND length(cron) BETWEEN 1 AND 256 AND length(timezone) BETWEEN 1 AND 64"
        ),
    ),
    (
        "queues",
        "times_readable",
        f"least(paused_at, created_at) >= {_FIRST} AND greatest(paused_at, created_at) < {_END}",
    ),
    (
        "queues",
        "periods_range",
        (
            "least(rate_period, key_rate_period) >= '1 second'::interval"
            " AND greatest(rate_period, key_rate_period) <= '1 day'::interval"
        ),
    ),
    ("webhook_sources", "times_readable", f"created_at >= {_FIRST} AND created_at < {_END}"),
    (
        "webhook_sources",
        "texts",
        (
            "length(job) BETWEEN 1 AND 200"
            " AND CASE WHEN array_ndims(secrets) = 1 THEN array_position(secrets, NULL) IS NULL"
            " ELSE false END"
            " AND CASE WHEN array_ndims(events) = 1 THEN array_position(events, NULL) IS NULL"
            " ELSE cardinality(events) = 0 END"
        ),
    ),
)


def upgrade() -> None:
    for table, name, condition in _CHECKS:
        constraint = f"{table}_{name}"
        op.execute(
            f"ALTER TABLE {SCHEMA}.{table} ADD CONSTRAINT {constraint} CHECK ({condition}) NOT VALID".replace(
                ":", r"\:"
            )
        )
        op.execute(
            f"""
DO $$ BEGIN
  ALTER TABLE {SCHEMA}.{table} VALIDATE CONSTRAINT {constraint};
EXCEPTION WHEN check_violation THEN
  RAISE WARNING 'a row of {table} does not meet {constraint}, callboard doctor shows it';
END $$"""
        )


def downgrade() -> None:
    for table, name, _ in _CHECKS:
        op.execute(f"ALTER TABLE {SCHEMA}.{table} DROP CONSTRAINT {table}_{name}")
