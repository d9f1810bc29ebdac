"""The rows of queues: count, pause and resume."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from callboard.jobs.limits.repository.limiting import LIMITS, limit_problems, limits_of
from callboard.jobs.model.unreadable import RowProblem, unreadable_values
from callboard.jobs.operate.queue_counts import Gauged, QueueCounts
from callboard.jobs.postgres.sql import BUSY, SCHEMA, URGENCY

#: The longest-waiting job of a queue is searched among this many jobs.
_OLDEST_AMONG: Final = 1_000

# Each count reads one partial index; for queued jobs the index alone. Finished jobs are never counted. The
# index is in the order of urgency, so the longest-waiting job is searched among those that come next.
_COUNTS: Final = f"""
WITH later AS MATERIALIZED (
  SELECT queue, state, count(*) AS n FROM {SCHEMA}.jobs WHERE state IN ('scheduled', 'retrying') GROUP BY 1, 2
), {BUSY}, claims AS MATERIALIZED (
  SELECT queue, sum(held) AS held, sum(running) AS running FROM busy GROUP BY 1
)
SELECT q.name, q.paused_at,
  coalesce((SELECT n FROM later l WHERE l.queue = q.name AND l.state = 'scheduled'), 0)::bigint AS scheduled,
  (SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name) AS queued,
  coalesce(c.running, 0)::bigint AS running, coalesce(c.held - c.running, 0)::bigint AS claimed,
  coalesce((SELECT n FROM later l WHERE l.queue = q.name AND l.state = 'retrying'), 0)::bigint AS retrying,
  (SELECT min(run_at) FROM (
    SELECT j.run_at FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name
    ORDER BY {URGENCY}, j.id LIMIT {_OLDEST_AMONG}) AS next) AS oldest_at,
  CASE WHEN q.limited THEN (
    SELECT count(*) FROM {SCHEMA}.grants g WHERE g.queue = q.name AND g.started_at IS NULL) ELSE 0
      END AS granted,
  CASE WHEN q.rate IS NULL THEN 0 ELSE (
    SELECT coalesce(sum(g.uses), 0)::bigint FROM {SCHEMA}.grants g
    WHERE g.queue = q.name AND g.started_at > statement_timestamp()
      - least(greatest(q.rate_period, interval '1 second'), interval '1 day')) END AS started,
  {LIMITS}{{more}}
FROM {SCHEMA}.queues q LEFT JOIN claims c ON c.queue = q.name
"""
_ALL: Final = text(_COUNTS.format(more="") + " ORDER BY q.name")
_ONE: Final = text(_COUNTS.format(more="") + " WHERE q.name = :name")
_GAUGED: Final = text(
    _COUNTS.format(
        more=f""", statement_timestamp() AS at,
  (SELECT count(*) FROM {SCHEMA}.workers w WHERE w.queues = '{{}}' OR q.name = ANY(w.queues)) AS workers,
  q.name IN (SELECT t.queue FROM {SCHEMA}.job_versions t
    UNION ALL SELECT unnest(w.queues) FROM {SCHEMA}.workers w) AS named"""
    )
    + " ORDER BY q.name"
)


def counts(connection: Connection) -> list[QueueCounts]:
    """Return all queues, sorted by name."""
    return [_counted(row) for row in connection.execute(_ALL)]


def count(connection: Connection, name: str) -> QueueCounts | None:
    """Return one queue; None when there is no such queue."""
    row = connection.execute(_ONE, {"name": name}).one_or_none()
    return None if row is None else _counted(row)


_ROWS: Final = text(
    f"SELECT q.name, q.paused_at, q.created_at, {LIMITS} FROM {SCHEMA}.queues q ORDER BY q.name LIMIT 10000"
)


def problems(connection: Connection) -> list[RowProblem]:
    """Return the problems of queues that were changed by hand."""
    rows = connection.execute(_ROWS).all()
    found = [
        RowProblem("queues", row.name, *each)
        for row in rows
        for each in unreadable_values(row).items()
        if not each[0].endswith("_period")
    ]
    return found + [one for row in rows for one in limit_problems(row, row.name)]


def _counted(row: Row[Any]) -> QueueCounts:
    return QueueCounts(
        name=row.name,
        paused_at=row.paused_at,
        scheduled=row.scheduled,
        queued=row.queued,
        running=row.running,
        claimed=row.claimed,
        retrying=row.retrying,
        oldest_at=row.oldest_at,
        granted=row.granted,
        started=row.started,
        limits=limits_of(row, row.name),
    )


def gauged(connection: Connection) -> list[Gauged]:
    """Return the values of the gauges, read with one statement."""
    return [Gauged(_counted(row), row.at, row.workers, row.named) for row in connection.execute(_GAUGED)]


_SUSPECTS: Final = text(
    f"SELECT queue, count(*) FROM {SCHEMA}.jobs WHERE state = 'queued' AND solo GROUP BY queue"
)


def suspects(connection: Connection) -> dict[str, int]:
    """Return the queues in which jobs wait to run alone, with the number of jobs."""
    return {row[0]: row[1] for row in connection.execute(_SUSPECTS)}


_PAUSE: Final = text(f"""
UPDATE {SCHEMA}.queues SET paused_at = coalesce(paused_at, statement_timestamp()) WHERE name = :name
""")
_RESUME: Final = text(f"UPDATE {SCHEMA}.queues SET paused_at = NULL WHERE name = :name")


def pause(connection: Connection, name: str) -> bool:
    """Pause a queue; return whether it exists."""
    return connection.execute(_PAUSE, {"name": name}).rowcount == 1


def resume(connection: Connection, name: str) -> bool:
    """Resume a queue; return whether it exists."""
    return connection.execute(_RESUME, {"name": name}).rowcount == 1


_PURGEABLE: Final = text(
    f"SELECT id FROM {SCHEMA}.jobs WHERE state = 'queued' AND queue = :queue"
    f" ORDER BY {URGENCY}, id LIMIT :limit"
)


def purgeable(connection: Connection, queue: str, limit: int) -> list[UUID]:
    """Return up to `limit` ids of queued jobs of one queue."""
    return list(connection.execute(_PURGEABLE, {"queue": queue, "limit": limit}).scalars())
