"""Queues: which there are, which are paused, what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from jobs.models import URGENCY


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """A queue and its unfinished jobs. `oldest_at`: when the job that has waited longest became due."""

    name: str
    paused_at: datetime | None
    scheduled: int
    queued: int
    running: int
    retrying: int
    oldest_at: datetime | None


# Each count reads one partial index; history is never counted.
_COUNTS: Final = """
WITH active AS (
  SELECT queue, 'queued' AS state, count(*) AS n, min(run_at) AS oldest FROM callboard.jobs WHERE state = 'queued' GROUP BY 1
  UNION ALL
  SELECT queue, state, count(*), NULL FROM callboard.jobs WHERE state IN ('scheduled', 'retrying') GROUP BY 1, 2
  UNION ALL
  SELECT queue, 'running', count(*), NULL FROM callboard.jobs WHERE state = 'running' GROUP BY 1
)
SELECT q.name, q.paused_at,
  coalesce(sum(a.n) FILTER (WHERE a.state = 'scheduled'), 0)::bigint,
  coalesce(sum(a.n) FILTER (WHERE a.state = 'queued'), 0)::bigint,
  coalesce(sum(a.n) FILTER (WHERE a.state = 'running'), 0)::bigint,
  coalesce(sum(a.n) FILTER (WHERE a.state = 'retrying'), 0)::bigint,
  min(a.oldest)
FROM callboard.queues q LEFT JOIN active a ON a.queue = q.name
"""
_ALL: Final = text(_COUNTS + " GROUP BY q.name, q.paused_at ORDER BY q.name")
_ONE: Final = text(_COUNTS + " WHERE q.name = :name GROUP BY q.name, q.paused_at")


def counts(connection: Connection) -> list[QueueCounts]:
    return [QueueCounts(*row) for row in connection.execute(_ALL)]


def count(connection: Connection, name: str) -> QueueCounts | None:
    row = connection.execute(_ONE, {"name": name}).one_or_none()
    return None if row is None else QueueCounts(*row)


_NAMES: Final = text("SELECT name FROM callboard.queues ORDER BY name")
_FEEDABLE: Final = text("SELECT name FROM callboard.queues WHERE paused_at IS NULL ORDER BY name")


def names(connection: Connection) -> list[str]:
    return list(connection.execute(_NAMES).scalars())


def feedable(connection: Connection) -> list[str]:
    """The queues that are not paused."""
    return list(connection.execute(_FEEDABLE).scalars())


_DECLARE: Final = text("""
INSERT INTO callboard.queues (name) SELECT unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING
""")


def declare(connection: Connection, queues: Sequence[str]) -> None:
    connection.execute(_DECLARE, {"names": sorted(queues)})


_PAUSE: Final = text("""
UPDATE callboard.queues SET paused_at = coalesce(paused_at, statement_timestamp()) WHERE name = :name
""")
_RESUME: Final = text("UPDATE callboard.queues SET paused_at = NULL WHERE name = :name")


def pause(connection: Connection, name: str) -> bool:
    """Whether there is such a queue; it is paused now."""
    return connection.execute(_PAUSE, {"name": name}).rowcount == 1


def resume(connection: Connection, name: str) -> bool:
    return connection.execute(_RESUME, {"name": name}).rowcount == 1


_PURGEABLE: Final = text(
    f"SELECT id FROM callboard.jobs WHERE state = 'queued' AND queue = :queue ORDER BY {URGENCY}, id LIMIT :limit"
)


def purgeable(connection: Connection, queue: str, limit: int) -> list[UUID]:
    """Ids of queued jobs of one queue, for a purge in batches."""
    return list(connection.execute(_PURGEABLE, {"queue": queue, "limit": limit}).scalars())
