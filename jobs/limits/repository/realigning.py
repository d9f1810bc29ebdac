"""Correct the times of grants after the database's clock was set back."""

from typing import Final

from sqlalchemy import Connection, text

from callboard.jobs.postgres.sql import SCHEMA

_REALIGN: Final = text(f"""
UPDATE {SCHEMA}.grants SET granted_at = least(granted_at, clock_timestamp()),
  started_at = least(started_at, clock_timestamp())
WHERE granted_at > clock_timestamp() OR started_at > clock_timestamp()
""")


def realign(connection: Connection) -> int:
    """Set the times of grants that lie in the future to now; return how many there were."""
    return connection.execute(_REALIGN).rowcount
