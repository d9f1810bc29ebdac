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
    """A queue, its unfinished jobs and its limits.

    oldest_at: when the job became due that has waited longest, of the thousand that come next. Of a longer queue's others
    none has waited more than ninety minutes longer, which is what the highest priority is worth.
    """

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


#: Jobs of a queue among which the one that has waited longest is looked for.
_OLDEST_AMONG: Final = 1_000

# Each count reads one partial index, and of queued jobs the index alone; history is never counted. Which of them has waited
# longest the index does not say, so it is looked for among those that come next.
_COUNTS: Final = f"""
WITH later AS MATERIALIZED (
  SELECT queue, state, count(*) AS n FROM callboard.jobs WHERE state IN ('scheduled', 'retrying') GROUP BY 1, 2
), busy AS MATERIALIZED (
  SELECT queue, count(*) AS n FROM callboard.jobs WHERE state = 'running' GROUP BY 1
)
SELECT q.name, q.paused_at,
  coalesce((SELECT n FROM later l WHERE l.queue = q.name AND l.state = 'scheduled'), 0)::bigint,
  (SELECT count(*) FROM callboard.jobs j WHERE j.state = 'queued' AND j.queue = q.name),
  coalesce((SELECT n FROM busy b WHERE b.queue = q.name), 0)::bigint,
  coalesce((SELECT n FROM later l WHERE l.queue = q.name AND l.state = 'retrying'), 0)::bigint,
  (SELECT min(run_at) FROM (
    SELECT j.run_at FROM callboard.jobs j WHERE j.state = 'queued' AND j.queue = q.name
    ORDER BY {URGENCY}, j.id LIMIT {_OLDEST_AMONG}) AS next),
  CASE WHEN q.limited THEN (
    SELECT count(*) FROM callboard.grants g WHERE g.queue = q.name AND g.started_at IS NULL) ELSE 0 END,
  CASE WHEN q.rate IS NULL THEN 0 ELSE (
    SELECT coalesce(sum(g.uses), 0)::bigint FROM callboard.grants g
    WHERE g.queue = q.name AND g.started_at > statement_timestamp() - q.rate_period) END,
  {LIMITS}{{more}}
FROM callboard.queues q
"""
_ALL: Final = text(_COUNTS.format(more="") + " ORDER BY q.name")
_ONE: Final = text(_COUNTS.format(more="") + " WHERE q.name = :name")
_GAUGED: Final = text(
    _COUNTS.format(
        more=""", statement_timestamp() AS at,
  (SELECT count(*) FROM callboard.workers w WHERE w.queues = '{}' OR q.name = ANY(w.queues)) AS workers"""
    )
    + " ORDER BY q.name"
)
_BEFORE_LIMITS: Final = len(fields(QueueCounts)) - 1


def counts(connection: Connection) -> list[QueueCounts]:
    return [_counted(row) for row in connection.execute(_ALL)]


def count(connection: Connection, name: str) -> QueueCounts | None:
    row = connection.execute(_ONE, {"name": name}).one_or_none()
    return None if row is None else _counted(row)


def _counted(row: Row[Any]) -> QueueCounts:
    counted: list[Any] = [*row[:_BEFORE_LIMITS], limits_of(row)]
    return QueueCounts(*counted)


class Gauged(NamedTuple):
    """A queue's counts, when they were taken, and how many workers with a lease serve it."""

    counts: QueueCounts
    at: datetime
    workers: int


def gauged(connection: Connection) -> list[Gauged]:
    """Everything that is shown of queues, in one statement."""
    return [Gauged(_counted(row), row.at, row.workers) for row in connection.execute(_GAUGED)]


class Seen(NamedTuple):
    """A queue as workers see it. `ready`: it is not paused, and has a job, or if it is limited a grant, that is not taken."""

    name: str
    limited: bool
    ready: bool


# OFFSET 0: one look into the index for each, never a hash of all that is queued.
_SEEN: Final = text("""
SELECT q.name, q.limited, q.paused_at IS NULL AND CASE WHEN q.limited
  THEN EXISTS (SELECT FROM callboard.grants g WHERE g.queue = q.name AND g.started_at IS NULL OFFSET 0)
  ELSE EXISTS (SELECT FROM callboard.jobs j WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo OFFSET 0) END AS ready
FROM callboard.queues q WHERE CAST(:wanted AS text[]) = '{}' OR q.name = ANY(CAST(:wanted AS text[])) ORDER BY q.name
""")


def seen(connection: Connection, wanted: Sequence[str]) -> list[Seen]:
    """Those of these queues that there are (none: all that there are), by name."""
    return [Seen(*row) for row in connection.execute(_SEEN, {"wanted": list(wanted)})]


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
