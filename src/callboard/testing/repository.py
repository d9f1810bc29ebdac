"""SQL of the drain: the clock of its schema, and empty tables.

The clock is a schema of its own that stands before `pg_catalog` in the sessions of a drain. Its functions
have the names of Postgres's own, and add the span by which a test has moved the clock.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, text

from callboard.jobs.postgres.sql import SCHEMA
from callboard.jobs.tables import METADATA

#: What stands for the time in the statements and defaults of this code base.
_TIMES: Final = {"now": "STABLE", "statement_timestamp": "STABLE", "clock_timestamp": "VOLATILE"}


def clock_schema(schema: str) -> str:
    """Return the name of the schema that holds the clock of this schema."""
    return f"{schema}_clock"


def move_clock(connection: Connection, by: timedelta) -> None:
    """Set the clock to this span after the server's time. Makes the clock if there is none."""
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {clock_schema(SCHEMA)}"))
    for name, kind in _TIMES.items():
        connection.execute(
            text(
                f"CREATE OR REPLACE FUNCTION {clock_schema(SCHEMA)}.{name}() RETURNS timestamptz"
                f" LANGUAGE sql {kind} PARALLEL SAFE AS $$ SELECT pg_catalog.{name}()"
                f" + interval '{by // timedelta(microseconds=1)} microseconds' $$"
            )
        )


_ROUTINES: Final = text(f"""
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = '{SCHEMA}' AND p.proconfig::text LIKE '%search_path%'
""")


def let_functions_use_clock(connection: Connection) -> None:
    """Make the SQL functions of the schema use the clock, too."""
    for (routine,) in connection.execute(_ROUTINES).all():
        connection.execute(
            text(f"ALTER FUNCTION {routine} SET search_path = {clock_schema(SCHEMA)}, pg_catalog, pg_temp")
        )


_QUEUES: Final = text(f"SELECT name FROM {SCHEMA}.queues ORDER BY name")


def queue_names(connection: Connection) -> list[str]:
    """Return the queues that exist."""
    return [row[0] for row in connection.execute(_QUEUES)]


def empty(connection: Connection) -> None:
    """Delete all rows. A test has few, and TRUNCATE takes longer for them."""
    for table in reversed(METADATA.sorted_tables):
        connection.execute(text(f"DELETE FROM {SCHEMA}.{table.name}"))


def drop(connection: Connection) -> None:
    """Remove the schema and its clock."""
    for name in (SCHEMA, clock_schema(SCHEMA)):
        connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
