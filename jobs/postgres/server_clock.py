"""The clock of the database server."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

_SERVER_TIME: Final = text("SELECT clock_timestamp()")


def server_time(connection: Connection) -> datetime:
    """Return the current time of the server, not the start time of the transaction. Timezone-aware."""
    now: datetime = connection.execute(_SERVER_TIME).scalar_one()
    return now
