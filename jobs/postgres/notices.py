"""NOTIFY and LISTEN: what Postgres tells listeners when a transaction commits."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import psycopg
from sqlalchemy import Connection, text

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.hint import Hint

#: Payload: the name of a queue that has new queued jobs.
QUEUED_CHANNEL: Final = "callboard_queued"

_QUEUED: Final = text("SELECT pg_notify(:channel, queue) FROM unnest(CAST(:queues AS text[])) AS queue")
_LISTEN: Final = text(f"LISTEN {QUEUED_CHANNEL}")


def queued(connection: Connection, queues: Sequence[str]) -> None:
    """Tell the feeder, at the commit, that these queues have new jobs."""
    if queues:
        connection.execute(_QUEUED, {"channel": QUEUED_CHANNEL, "queues": list(queues)})


def limited(connection: Connection, hints: Iterable[Hint]) -> None:
    """Tell the feeder, at the commit, of those jobs that only it may bring to Redis."""
    queued(connection, sorted({hint.queue for hint in hints if hint.limited}))


def listen(connection: Connection) -> None:
    """Hear, from now on, what `queued` tells; on a connection in autocommit, kept for this alone."""
    connection.execute(_LISTEN)


def heard(connection: Connection, timeout: float) -> set[str]:
    """The queues that were told of; waits up to `timeout` seconds for the first, and takes what came with it."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        return {notice.payload for notice in driver.notifies(timeout=timeout, stop_after=1)}
    except psycopg.OperationalError as error:
        raise Unavailable(f"Postgres does not answer: {error}") from error
