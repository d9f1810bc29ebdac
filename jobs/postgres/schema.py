"""The schema itself: made before the first migration, held while one runs."""

from typing import Final

from sqlalchemy import Connection, text

#: One number for everyone who migrates ("callb" in ASCII).
_MIGRATION_LOCK: Final = 0x63616C6C62

_LOCK: Final = text("SELECT pg_advisory_xact_lock(:key)")
_CREATE: Final = text("CREATE SCHEMA IF NOT EXISTS callboard")


def lock(connection: Connection) -> None:
    """Wait until nobody else migrates; until the transaction ends."""
    connection.execute(_LOCK, {"key": _MIGRATION_LOCK})


def create(connection: Connection) -> None:
    connection.execute(_CREATE)
