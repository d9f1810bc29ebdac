"""The schema itself: created before the first migration, locked while one runs."""

from typing import Final

from sqlalchemy import Connection, text

from callboard.jobs.postgres.locks import MIGRATION, lock_transaction
from callboard.jobs.postgres.sql import SCHEMA

_CREATE: Final = text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")


def lock(connection: Connection) -> None:
    """Wait until no other process migrates this schema; hold the lock until the transaction ends."""
    lock_transaction(connection, MIGRATION)


def create(connection: Connection) -> None:
    """Create the schema unless it exists."""
    connection.execute(_CREATE)
