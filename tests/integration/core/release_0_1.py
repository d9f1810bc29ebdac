"""A database of version 0.1 with jobs in every state: `fixtures/release_0_1.sql`, and its secrets."""

from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

import psycopg
from sqlalchemy import text

from callboard.jobs.platform import Platform

LAST_REVISION: Final = "0004"
#: The API key of the operator `shop`.
API_KEY: Final = "cb_pq5tg9xfclhi_F81hbrixFUYPJPnkiX-ATleQJxZbOAkyYsFqi7ZQbqA"
#: CALLBOARD_SECRET_KEY, with which the webhook source's signing secret is encrypted.
SECRET_KEY: Final = "the key of these tests alone"
#: What the webhook source `github` signs with.
SIGNING_SECRET: Final = "the signing secret of the tests"

_DATA: Final = Path(__file__).parent / "fixtures" / "release_0_1.sql"
_TABLES: Final = """
SELECT tablename FROM pg_tables WHERE schemaname = 'callboard' AND tablename <> 'alembic_version'
ORDER BY tablename
"""


def load(platform: Platform) -> None:
    """Replace all rows by those of the fixture, in the tables of version 0.1."""
    platform.migrations.upgrade()
    platform.migrations.downgrade(LAST_REVISION)
    everything = ", ".join(f"callboard.{table}" for table in tables(platform))
    with platform.database.autocommit() as connection:
        connection.execute(text(f"TRUNCATE {everything}"))
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        driver.execute(_DATA.read_bytes())


def tables(platform: Platform) -> list[str]:
    """The names of all tables of ours."""
    with platform.database.autocommit() as connection:
        return list(connection.execute(text(_TABLES)).scalars())


def tagged(platform: Platform) -> dict[str, UUID]:
    """The ids of the fixture's jobs by the tag that names each."""
    with platform.database.autocommit() as connection:
        found = connection.execute(text("SELECT tags[1], id FROM callboard.jobs WHERE tags <> '{}'"))
        return {row[0]: row[1] for row in found}


def rows(platform: Platform, table: str) -> list[dict[str, Any]]:
    """Every row of a table as JSON, in the order of the first column."""
    with platform.database.autocommit() as connection:
        found = connection.execute(text(f"SELECT to_jsonb(t) FROM callboard.{table} t ORDER BY t"))
        return [dict(row) for row in found.scalars()]
