"""Queues: which there are, which are paused, what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, text

from jobs.limits import Limits
from jobs.models import URGENCY
from jobs.repositories.limits import LIMITS, limits_of


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """A queue, its unfinished jobs and its limits. `oldest_at`: when the job that has waited longest became due."""

    name: str
    paused_at: datetime | None
    scheduled: int
    queued: int
    running: int
    retrying: int
    oldest_at: datetime | None
    #: Granted within the limits, and not yet claimed.
    granted: int
    #: Started within the rate's period; 0 without a rate.
    started: int
    limits: Limits


# Each count reads one partial index; history is never counted.
_COUNTS: Final = f"""
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
  min(a.oldest),
  CASE WHEN q.limited THEN (
    SELECT count(*) FROM callboard.grants g WHERE g.queue = q.name AND g.started_at IS NULL) ELSE 0 END,
  CASE WHEN q.rate IS NULL THEN 0 ELSE (
    SELECT coalesce(sum(g.uses), 0)::bigint FROM callboard.grants g
    WHERE g.queue = q.name AND g.started_at > statement_timestamp() - q.rate_period) END,
  {LIMITS}
FROM callboard.queues q LEFT JOIN active a ON a.queue = q.name
"""
_ALL: Final = text(_COUNTS + " GROUP BY q.name ORDER BY q.name")
_ONE: Final = text(_COUNTS + " WHERE q.name = :name GROUP BY q.name")
_BEFORE_LIMITS: Final = len(fields(QueueCounts)) - 1


def counts(connection: Connection) -> list[QueueCounts]:
    return [_counted(row) for row in connection.execute(_ALL)]


def count(connection: Connection, name: str) -> QueueCounts | None:
    row = connection.execute(_ONE, {"name": name}).one_or_none()
    return None if row is None else _counted(row)


def _counted(row: Row[Any]) -> QueueCounts:
    counted: list[Any] = [*row[:_BEFORE_LIMITS], limits_of(row)]
    return QueueCounts(*counted)


_NAMES: Final = text("SELECT name FROM callboard.queues ORDER BY name")
# Of limited queues those where something waits, or was granted and may be void. OFFSET 0: one look into the index for each,
# never a hash of all that is queued.
_FEEDABLE: Final = text("""
SELECT q.name, q.limited FROM callboard.queues q
WHERE q.paused_at IS NULL
  AND (NOT q.limited OR EXISTS (SELECT FROM callboard.jobs j WHERE j.state = 'queued' AND j.queue = q.name OFFSET 0)
    OR EXISTS (SELECT FROM callboard.grants g WHERE g.queue = q.name AND g.started_at IS NULL OFFSET 0))
ORDER BY q.name
""")


class Feedable(NamedTuple):
    """A queue that may be fed; a limited one with what was granted, and only when there is something to do."""

    name: str
    limited: bool


def names(connection: Connection) -> list[str]:
    return list(connection.execute(_NAMES).scalars())


_LIMITED: Final = text("SELECT name FROM callboard.queues WHERE limited")


def limited(connection: Connection) -> set[str]:
    return set(connection.execute(_LIMITED).scalars())


def feedable(connection: Connection) -> list[Feedable]:
    """The queues that are not paused."""
    return [Feedable(*row) for row in connection.execute(_FEEDABLE)]


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
