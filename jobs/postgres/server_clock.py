"""Reads of jobs: one, many, pages, what is queued, how much there is."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

_SERVER_TIME: Final = text("SELECT clock_timestamp()")


def server_time(connection: Connection) -> datetime:
    now: datetime = connection.execute(_SERVER_TIME).scalar_one()
    return now
