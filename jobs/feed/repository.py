"""The verbs outside an attempt: what the reaper, the feeder, an operator and the pruner do to jobs. One guarded statement each.

With `jobs.py` the only writer of a job's state; the same rules hold.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

from sqlalchemy import Connection, text

from callboard.jobs.feed.upkeep import Upkeep
from callboard.jobs.model.endings import Finished
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import PENDING, JobState
from callboard.jobs.postgres.sql import HINT, SCHEMA, URGENCY, _hints, by_id, in_states

_STAGE: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs WHERE state IN ('scheduled', 'retrying') AND run_at <= statement_timestamp()
  ORDER BY run_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE {SCHEMA}.jobs j SET state = 'queued', epoch = j.epoch + 1 FROM target WHERE {by_id("target.id")} RETURNING {HINT}
""")


def stage(connection: Connection, limit: int) -> list[Hint]:
    """stage: scheduled | retrying -> queued, for what is due, oldest first; epoch+1."""
    return _hints(connection.execute(_STAGE, {"limit": limit}))


_EXPIRE: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs WHERE expires_at <= statement_timestamp() AND expires_at IS NOT NULL AND {in_states(PENDING)}
  ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE {SCHEMA}.jobs j SET state = 'cancelled', finished_at = clock_timestamp(), progress_note = 'expired'
FROM target WHERE {by_id("target.id")} RETURNING j.id, j.state
""")


def expire(connection: Connection, limit: int) -> list[Finished]:
    """expire: waiting | scheduled | queued | retrying -> cancelled, past expires_at."""
    return [Finished(row[0], JobState(row[1])) for row in connection.execute(_EXPIRE, {"limit": limit})]


_QUEUED: Final = text(f"""
SELECT j.id::text, j.epoch, j.priority, floor(extract(epoch FROM j.run_at) * 1000)::bigint FROM {SCHEMA}.jobs j
WHERE j.state = 'queued' AND j.queue = :queue AND NOT j.solo ORDER BY {URGENCY}, j.id LIMIT :limit OFFSET :offset
""")


def queued(
    connection: Connection, queue: str, limit: int, offset: int = 0
) -> list[tuple[str, int, int, int]]:
    """feed: the most urgent and oldest queued jobs of one queue, from the `offset`th on, but for those that run alone.

    Plain rows of id, epoch, priority and run_at in milliseconds: thousands of them are read several times a second.
    """
    parameters = {"queue": queue, "limit": limit, "offset": offset}
    return cast("list[tuple[str, int, int, int]]", connection.execute(_QUEUED, parameters).all())


_HEADS: Final = text(f"""
SELECT q.name, found.* FROM unnest(CAST(:queues AS text[])) AS q(name), LATERAL (
  SELECT j.id::text, j.epoch, j.priority, floor(extract(epoch FROM j.run_at) * 1000)::bigint FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo ORDER BY {URGENCY}, j.id LIMIT :limit
) AS found
""")


def heads(
    connection: Connection, names: Sequence[str], limit: int
) -> dict[str, list[tuple[str, int, int, int]]]:
    """feed: the first of what `queued` reads, of several queues at once."""
    found: dict[str, list[tuple[str, int, int, int]]] = {name: [] for name in names}
    for name, *row in connection.execute(_HEADS, {"queues": list(names), "limit": limit}):
        found[name].append((row[0], row[1], row[2], row[3]))
    return found


# OFFSET 0: one look into the index for each queue, never a hash of all that is queued. Those that run alone are not fed.
_FEEDABLE: Final = f"""
coalesce((SELECT array_agg(q.name ORDER BY q.name) FROM {SCHEMA}.queues q
  WHERE q.paused_at IS NULL AND NOT q.limited
    AND EXISTS (SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo OFFSET 0)), '{{}}') AS plain,
coalesce((SELECT array_agg(q.name ORDER BY q.name) FROM {SCHEMA}.queues q
  WHERE q.paused_at IS NULL AND q.limited
    AND (EXISTS (SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name OFFSET 0)
      OR EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.queue = q.name AND g.started_at IS NULL OFFSET 0))), '{{}}') AS limited
"""
_LOOK: Final = text(f"""
SELECT
(SELECT expires_at FROM {SCHEMA}.jobs WHERE expires_at IS NOT NULL AND {in_states(PENDING)}
  ORDER BY expires_at LIMIT 1) - statement_timestamp() AS expires_in,
(SELECT run_at FROM {SCHEMA}.jobs WHERE state IN ('scheduled', 'retrying') ORDER BY run_at, id LIMIT 1) - statement_timestamp() AS due_in,
(SELECT next_fire_at FROM {SCHEMA}.schedules WHERE next_fire_at IS NOT NULL
  ORDER BY next_fire_at LIMIT 1) - statement_timestamp() AS fires_in,
EXISTS (SELECT FROM {SCHEMA}.workers WHERE lease_expires_at <= statement_timestamp()) AS dead,
{_FEEDABLE}
""")


def look(connection: Connection) -> Upkeep:
    """Whether anything has expired, is due or is to be fed, and when the next thing will be."""
    values: list[Any] = list(connection.execute(_LOOK).one())
    return Upkeep(*values)
