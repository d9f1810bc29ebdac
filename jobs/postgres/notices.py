"""NOTIFY and LISTEN: Postgres sends notices to listeners when a transaction commits."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import psycopg
from sqlalchemy import Connection, text

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.hint import Hint
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA

#: One channel for each schema. Payload: the name of a queue that has new queued jobs.
_CHANNEL: Final = f"{SCHEMA}_queued"

_QUEUED: Final = text(f"SELECT pg_notify('{_CHANNEL}', queue) FROM unnest(CAST(:queues AS text[])) AS queue")
_LISTEN: Final = text(f"LISTEN {_CHANNEL}")


def queued(statements: Statements, queues: Sequence[str]) -> None:
    """At the commit, notify the feeder of the queues that have new jobs."""
    if queues:
        statements.execute(_QUEUED, {"queues": list(queues)})


def limited(statements: Statements, hints: Iterable[Hint]) -> None:
    """At the commit, notify the feeder of new jobs of limited queues: only the feeder may push them."""
    queued(statements, sorted({hint.queue for hint in hints if hint.limited}))


def listen(connection: Connection) -> None:
    """Subscribe a connection to `queued`. The connection is in autocommit and has no other use."""
    connection.execute(_LISTEN)


def heard(connection: Connection, timeout: float) -> set[str]:
    """Return the queues of the received notices; wait up to `timeout` seconds for the first notice."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        return {notice.payload for notice in driver.notifies(timeout=timeout, stop_after=1)}
    except psycopg.OperationalError as error:
        raise Unavailable(f"Postgres does not answer: {error}") from error
