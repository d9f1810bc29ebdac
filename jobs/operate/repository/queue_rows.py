"""Queues: which there are, which are paused, what they hold."""

from dataclasses import fields
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from callboard.jobs.limits.repository import LIMITS, limits_of
from callboard.jobs.operate.queue_counts import Gauged, QueueCounts
from callboard.jobs.postgres.sql import SCHEMA, URGENCY

#: Jobs of a queue among which the one that has waited longest is looked for.
_OLDEST_AMONG: Final = 1_000

# Each count reads one partial index, and of queued jobs the index alone; history is never counted. Which of them has waited
# longest the index does not say, so it is looked for among those that come next.
_COUNTS: Final = f"""
WITH later AS MATERIALIZED (
  SELECT queue, state, count(*) AS n FROM {SCHEMA}.jobs WHERE state IN ('scheduled', 'retrying') GROUP BY 1, 2
), busy AS MATERIALIZED (
  SELECT queue, count(*) AS n FROM {SCHEMA}.jobs WHERE state = 'running' GROUP BY 1
)
SELECT q.name, q.paused_at,
  coalesce((SELECT n FROM later l WHERE l.queue = q.name AND l.state = 'scheduled'), 0)::bigint,
  (SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name),
  coalesce((SELECT n FROM busy b WHERE b.queue = q.name), 0)::bigint,
  coalesce((SELECT n FROM later l WHERE l.queue = q.name AND l.state = 'retrying'), 0)::bigint,
  (SELECT min(run_at) FROM (
    SELECT j.run_at FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name
    ORDER BY {URGENCY}, j.id LIMIT {_OLDEST_AMONG}) AS next),
  CASE WHEN q.limited THEN (
    SELECT count(*) FROM {SCHEMA}.grants g WHERE g.queue = q.name AND g.started_at IS NULL) ELSE 0 END,
  CASE WHEN q.rate IS NULL THEN 0 ELSE (
    SELECT coalesce(sum(g.uses), 0)::bigint FROM {SCHEMA}.grants g
    WHERE g.queue = q.name AND g.started_at > statement_timestamp() - q.rate_period) END,
  {LIMITS}{{more}}
FROM {SCHEMA}.queues q
"""
_ALL: Final = text(_COUNTS.format(more="") + " ORDER BY q.name")
_ONE: Final = text(_COUNTS.format(more="") + " WHERE q.name = :name")
_GAUGED: Final = text(
    _COUNTS.format(
        more=f""", statement_timestamp() AS at,
  (SELECT count(*) FROM {SCHEMA}.workers w WHERE w.queues = '{{}}' OR q.name = ANY(w.queues)) AS workers"""
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


def gauged(connection: Connection) -> list[Gauged]:
    """Everything that is shown of queues, in one statement."""
    return [Gauged(_counted(row), row.at, row.workers) for row in connection.execute(_GAUGED)]


_PAUSE: Final = text(f"""
UPDATE {SCHEMA}.queues SET paused_at = coalesce(paused_at, statement_timestamp()) WHERE name = :name
""")
_RESUME: Final = text(f"UPDATE {SCHEMA}.queues SET paused_at = NULL WHERE name = :name")


def pause(connection: Connection, name: str) -> bool:
    """Whether there is such a queue; it is paused now."""
    return connection.execute(_PAUSE, {"name": name}).rowcount == 1


def resume(connection: Connection, name: str) -> bool:
    return connection.execute(_RESUME, {"name": name}).rowcount == 1


_PURGEABLE: Final = text(
    f"SELECT id FROM {SCHEMA}.jobs WHERE state = 'queued' AND queue = :queue ORDER BY {URGENCY}, id LIMIT :limit"
)


def purgeable(connection: Connection, queue: str, limit: int) -> list[UUID]:
    """Ids of queued jobs of one queue, for a purge in batches."""
    return list(connection.execute(_PURGEABLE, {"queue": queue, "limit": limit}).scalars())
