"""Advisory locks: one leader and one migration at a time in each schema."""

from functools import cache
from typing import Final

from sqlalchemy import Connection, TextClause, text

from callboard.jobs.model.basics.schema_name import DEFAULT_SCHEMA
from callboard.jobs.postgres.sql import SCHEMA


def _key(purpose: str, released: int) -> str:
    """Return the SQL expression of a lock's key, a bigint that follows from the schema's name.

    The default schema keeps the fixed key of version 0.1, which has no other schema. So processes of both
    versions exclude each other.
    """
    return (
        f"CASE '{SCHEMA}' WHEN '{DEFAULT_SCHEMA}' THEN {released}"
        f" ELSE hashtextextended('{SCHEMA}.{purpose}', 0) END"
    )


#: The key of the leader's lock; in the default schema "call" in ASCII, and 1.
LEADER: Final = _key("leader", 0x63616C6C01)
#: The key of the lock for migrations; in the default schema "callb" in ASCII.
MIGRATION: Final = _key("migration", 0x63616C6C62)

_ALIVE: Final = text("SELECT 1")


@cache
def _calling(function: str, key: str) -> TextClause:
    return text(f"SELECT {function}({key})")


def try_lock(connection: Connection, key: str) -> bool:
    """Take the lock if it is free, until the connection closes; return whether it was taken."""
    return bool(connection.execute(_calling("pg_try_advisory_lock", key)).scalar_one())


def try_lock_transaction(connection: Connection, key: str) -> bool:
    """Take the lock if it is free, until the transaction ends; return whether it was taken."""
    return bool(connection.execute(_calling("pg_try_advisory_xact_lock", key)).scalar_one())


def check(connection: Connection) -> None:
    """Raise an error when the connection, and with it its locks, is lost."""
    connection.execute(_ALIVE)
