"""What `job why` asks of Postgres: how things stand around one job. Reads alone, each by index and bounded."""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from callboard.jobs.model.job import Job
from callboard.jobs.operate.surroundings import MOST_COUNTED, Server, Surroundings, Use
from callboard.jobs.postgres.sql import SCHEMA, URGENCY

#: Jobs that are named as those that use a limit up.
MOST_NAMED: Final = 5
_MOST_WORKERS: Final = 1_000


_SURROUNDINGS: Final = text(f"""
SELECT clock_timestamp(),
  EXISTS (SELECT FROM {SCHEMA}.grants g
    WHERE g.job_id = j.id AND g.epoch = j.epoch AND g.started_at IS NULL),
  (SELECT w.hostname || ':' || w.pid FROM {SCHEMA}.workers w WHERE w.id = j.worker_id),
  q.paused_at, q.concurrency, q.rate, q.rate_period, q.key_concurrency, q.key_rate, q.key_rate_period
FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue WHERE j.id = :id
""")


def surroundings(connection: Connection, job: Job) -> Surroundings | None:
    """How things stand around the job; None when it is gone."""
    row = connection.execute(_SURROUNDINGS, {"id": job.id}).one_or_none()
    return None if row is None else Surroundings(*row)


_SERVERS: Final = text(f"""
SELECT w.hostname || ':' || w.pid, :name = ANY(w.job_names), w.threads, w.slots,
  (SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.worker_id = w.id)
FROM {SCHEMA}.workers w
WHERE w.lease_expires_at > clock_timestamp() AND w.draining_since IS NULL
  AND (w.queues = '{{}}' OR CAST(:queue AS text) = ANY(w.queues))
ORDER BY w.started_at, w.id LIMIT :limit
""")


def servers(connection: Connection, job: Job) -> list[Server]:
    """The live workers that serve the job's queue, draining ones left out."""
    parameters = {"name": job.name, "queue": job.queue, "limit": _MOST_WORKERS}
    return [Server(*row) for row in connection.execute(_SERVERS, parameters)]


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
    """How many queued jobs of its queue come before it; counted as far as MOST_COUNTED."""
    parameters = {
        "queue": job.queue, "run_at": job.run_at, "priority": job.priority, "id": job.id, "limit": MOST_COUNTED,
    }  # fmt: skip
    number: int = connection.execute(_AHEAD, parameters).scalar_one()
    return number


# What runs is bounded by the slots of all workers, and lies in one small index. A grant that is not used yet
# counts as well; both stop at the limit, which is all there is to know.
_USE: Final = f"""
WITH running AS MATERIALIZED (
  SELECT j.id, j.started_at FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.queue = :queue{{key_of_job}} LIMIT :limit
), granted AS MATERIALIZED (
  SELECT g.job_id AS id, g.granted_at FROM {SCHEMA}.grants g
  WHERE g.queue = :queue{{key_of_grant}} AND g.started_at IS NULL LIMIT :limit
), used AS (
  SELECT id, started_at AS since FROM running UNION ALL SELECT id, granted_at FROM granted
)
SELECT (SELECT count(*) FROM used), ARRAY(SELECT id FROM used ORDER BY since, id LIMIT :named)
"""
_USE_OF_QUEUE: Final = text(_USE.format(key_of_job="", key_of_grant=""))
_USE_OF_KEY: Final = text(
    _USE.format(key_of_job=" AND j.limit_key = :key", key_of_grant=" AND g.limit_key = :key")
)


def use(connection: Connection, job: Job, limit: int, *, by_key: bool) -> Use:
    """What uses the concurrency of the job's queue, or of its key."""
    parameters: dict[str, Any] = {"queue": job.queue, "limit": limit, "named": MOST_NAMED}
    if by_key:
        parameters["key"] = job.limit_key
    row = connection.execute(_USE_OF_KEY if by_key else _USE_OF_QUEUE, parameters).one()
    return Use(min(row[0], limit), row[1])


# A start comes back to the rate one period after it was made (a row may stand for several, as its `uses` says), and one
# that is granted has yet to be made. Room comes with the oldest of the newest `rate`.
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
    """When the rate of the job's queue, or of its key, next has room; None when it has room now."""
    parameters: dict[str, Any] = {"queue": job.queue, "rate": rate, "period": period}
    if by_key:
        parameters["key"] = job.limit_key
    statement = _KEY_FILLED_UNTIL if by_key else _QUEUE_FILLED_UNTIL
    until: datetime | None = connection.execute(statement, parameters).scalar_one()
    return until
