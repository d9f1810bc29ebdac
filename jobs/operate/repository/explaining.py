"""The reads of `job why` about one job. Each uses an index and is bounded."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from callboard.jobs.model.job import Job
from callboard.jobs.operate.surroundings import (
    MOST_COUNTED,
    ConcurrencyUse,
    ServingWorker,
    Surroundings,
    WorkerHold,
)
from callboard.jobs.postgres.sql import SCHEMA, URGENCY, columns

#: This many of the jobs that use up a limit are named.
MOST_NAMED: Final = 5
_MOST_WORKERS: Final = 1_000


_GRANTED: Final = f"""EXISTS (
  SELECT FROM {SCHEMA}.grants g WHERE g.job_id = j.id AND g.epoch = j.epoch AND g.started_at IS NULL)"""
_WORKER: Final = f"(SELECT w.hostname || ':' || w.pid FROM {SCHEMA}.workers w WHERE w.id = j.worker_id)"
#: A job that was claimed after the look may have begun since.
_BEGUN: Final = f"""(
  SELECT CASE WHEN j.id = ANY(w.begun) THEN true WHEN j.started_at < w.begun_at THEN false END
  FROM {SCHEMA}.workers w WHERE w.id = j.worker_id AND j.state = 'running')"""
_AROUND: Final = columns(
    Surroundings, "q", now="clock_timestamp()", granted=_GRANTED, worker=_WORKER, begun=_BEGUN
)
_SURROUNDINGS: Final = text(f"""
SELECT {_AROUND}
FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue WHERE j.id = :id
""")


def surroundings(connection: Connection, job: Job) -> Surroundings | None:
    """Return the job's surroundings; None when the job is deleted."""
    row = connection.execute(_SURROUNDINGS, {"id": job.id}).one_or_none()
    return None if row is None else Surroundings(*row)


_HOLD: Final = text(f"""
SELECT w.hold_kind, w.held_since, w.holder_job_id, h.name
FROM {SCHEMA}.workers w LEFT JOIN {SCHEMA}.jobs h ON h.id = w.holder_job_id
WHERE w.id = :worker AND w.hold_kind IS NOT NULL AND w.held_since IS NOT NULL
""")


def hold(connection: Connection, job: Job) -> WorkerHold | None:
    """Return what is held in the process that runs the job; None when nothing is."""
    row = connection.execute(_HOLD, {"worker": job.worker_id}).one_or_none()
    return None if row is None else WorkerHold(*row)


_RUNNING: Final = f"(SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.worker_id = w.id)"
_SERVER_COLUMNS: Final = columns(
    ServingWorker, "w", place="w.hostname || ':' || w.pid", knows=":name = ANY(w.job_names)", running=_RUNNING
)
_SERVERS: Final = text(f"""
SELECT {_SERVER_COLUMNS}
FROM {SCHEMA}.workers w
WHERE w.lease_expires_at > clock_timestamp() AND w.draining_since IS NULL
  AND (w.queues = '{{}}' OR CAST(:queue AS text) = ANY(w.queues))
ORDER BY w.started_at, w.id LIMIT :limit
""")


def servers(connection: Connection, job: Job) -> list[ServingWorker]:
    """Return the live workers that serve the job's queue, without those that drain."""
    parameters = {"name": job.name, "queue": job.queue, "limit": _MOST_WORKERS}
    return [ServingWorker(*row) for row in connection.execute(_SERVERS, parameters)]


_AHEAD: Final = text(f"""
SELECT count(*) FROM (
  SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = :queue
    AND (({URGENCY}), j.id) < ((
      (CAST(:run_at AS timestamptz) - '2020-01-01 00:00:00+00'::timestamptz)
      + CAST(:priority AS double precision) * '00:10:00'::interval), CAST(:id AS uuid))
  LIMIT :limit
) AS before
""")


def ahead(connection: Connection, job: Job) -> int:
    """Return how many queued jobs of its queue come before it. The count stops at MOST_COUNTED."""
    parameters = {
        "queue": job.queue, "run_at": job.run_at, "priority": job.priority, "id": job.id,
        "limit": MOST_COUNTED,
    }  # fmt: skip
    number: int = connection.execute(_AHEAD, parameters).scalar_one()
    return number


# The number of running jobs is bounded by the slots of all workers, and they are in one small index. Unused
# grants count too. Both counts stop at the limit.
_USED_BY: Final = "ARRAY(SELECT id FROM used ORDER BY since, id LIMIT :named)"
_USE: Final = f"""
WITH running AS MATERIALIZED (
  SELECT j.id, j.started_at FROM {SCHEMA}.jobs j
  WHERE j.state = 'running' AND j.queue = :queue{{key_of_job}} LIMIT :limit
), granted AS MATERIALIZED (
  SELECT g.job_id AS id, g.granted_at FROM {SCHEMA}.grants g
  WHERE g.queue = :queue{{key_of_grant}} AND g.started_at IS NULL LIMIT :limit
), used AS (
  SELECT id, started_at AS since FROM running UNION ALL SELECT id, granted_at FROM granted
)
SELECT {columns(ConcurrencyUse, number="(SELECT count(*) FROM used)", jobs=_USED_BY)}
"""
_USE_OF_QUEUE: Final = text(_USE.format(key_of_job="", key_of_grant=""))
_USE_OF_KEY: Final = text(
    _USE.format(key_of_job=" AND j.limit_key = :key", key_of_grant=" AND g.limit_key = :key")
)


def use(connection: Connection, job: Job, limit: int, *, by_key: bool) -> ConcurrencyUse:
    """Return the use of the concurrency limit of the job's queue, or of its key."""
    parameters: dict[str, Any] = {"queue": job.queue, "limit": limit, "named": MOST_NAMED}
    if by_key:
        parameters["key"] = job.limit_key
    used = ConcurrencyUse(*connection.execute(_USE_OF_KEY if by_key else _USE_OF_QUEUE, parameters).one())
    return replace(used, number=min(used.number, limit))


# A start counts for one period; a row may stand for several starts, as its `uses` says. A granted job counts
# as if it started now. There is room again when the oldest of the newest `rate` starts no longer counts.
_FILLED_UNTIL: Final = f"""
WITH counted AS MATERIALIZED (
  SELECT coalesce(g.started_at, clock_timestamp()) AS at, g.uses FROM {SCHEMA}.grants g
  WHERE g.queue = :queue{{key}}
    AND (g.started_at IS NULL OR g.started_at > clock_timestamp() - CAST(:period AS interval))
), summed AS (
  SELECT at, sum(uses) OVER (ORDER BY at) AS so_far, sum(uses) OVER () AS total FROM counted
)
SELECT min(at) + CAST(:period AS interval) FROM summed WHERE total >= :rate AND so_far > total - :rate
"""
_QUEUE_FILLED_UNTIL: Final = text(_FILLED_UNTIL.format(key=""))
_KEY_FILLED_UNTIL: Final = text(_FILLED_UNTIL.format(key=" AND g.limit_key = :key"))


def filled_until(
    connection: Connection, job: Job, rate: int, period: timedelta, *, by_key: bool
) -> datetime | None:
    """Return when the rate of the job's queue, or of its key, has room again; None when it has room now."""
    parameters: dict[str, Any] = {"queue": job.queue, "rate": rate, "period": period}
    if by_key:
        parameters["key"] = job.limit_key
    statement = _KEY_FILLED_UNTIL if by_key else _QUEUE_FILLED_UNTIL
    until: datetime | None = connection.execute(statement, parameters).scalar_one()
    return until
