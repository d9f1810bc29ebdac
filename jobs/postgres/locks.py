"""Session locks: held as long as the connection that took them lives."""

from typing import Final

from sqlalchemy import Connection, text

#: The one scheduler that leads ("call" in ASCII, and 1).
LEADER: Final = 0x63616C6C01

_TRY: Final = text("SELECT pg_try_advisory_lock(:key)")
_ALIVE: Final = text("SELECT 1")


def try_lock(connection: Connection, key: int) -> bool:
    """Take the lock if nobody has it; for as long as this connection lives."""
    return bool(connection.execute(_TRY, {"key": key}).scalar_one())


def check(connection: Connection) -> None:
    """Raise when the connection, and with it what it holds, is gone."""
    connection.execute(_ALIVE)
