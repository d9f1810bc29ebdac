"""The Postgres schema: create it before the first migration, lock it during a migration."""

from typing import Final

from sqlalchemy import Connection, text

from callboard.jobs.postgres.locks import MIGRATION, lock_transaction
from callboard.jobs.postgres.sql import SCHEMA

_CREATE: Final = text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")


def lock(connection: Connection) -> None:
    """Lock this schema for migrations until the transaction ends. Wait for other processes first."""
    lock_transaction(connection, MIGRATION)


def create(connection: Connection) -> None:
    """Create the schema unless it exists."""
    connection.execute(_CREATE)
