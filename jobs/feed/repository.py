"""The verbs of the feeder (stage, expire) and its reads. Each verb is one guarded statement."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, text

from callboard.jobs.feed.upkeep import Upkeep
from callboard.jobs.model.endings import Finished
from callboard.jobs.model.hint import FeedTokens, Hint
from callboard.jobs.model.states import PENDING, JobState
from callboard.jobs.postgres.schema import VERSION
from callboard.jobs.postgres.sql import (
    FED_COLUMNS,
    FEED_TOKENS,
    HINT,
    NEXT_EPOCH,
    SCHEMA,
    URGENCY,
    by_id,
    columns,
    hints_of,
    in_states,
)

_STAGE: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs WHERE state IN ('scheduled', 'retrying') AND run_at <= statement_timestamp()
  ORDER BY run_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE {SCHEMA}.jobs j SET state = 'queued', epoch = {NEXT_EPOCH},
  run_at = CASE WHEN isfinite(j.run_at) THEN j.run_at ELSE statement_timestamp() END FROM target
  WHERE {by_id("target.id")} RETURNING {HINT}
""")


def stage(connection: Connection, limit: int) -> list[Hint]:
    """stage: scheduled | retrying -> queued, of jobs that are due, the oldest first; epoch+1.

    A job that is due since `-infinity` becomes due now: Postgres cannot compute with such a time before 17.
    """
    return hints_of(connection.execute(_STAGE, {"limit": limit}))


_EXPIRE: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs
  WHERE expires_at <= statement_timestamp() AND expires_at IS NOT NULL AND {in_states(PENDING)}
  ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE {SCHEMA}.jobs j SET state = 'cancelled', finished_at = clock_timestamp(), progress_note = 'expired'
FROM target WHERE {by_id("target.id")} RETURNING j.id, j.state
""")


def expire(connection: Connection, limit: int) -> list[Finished]:
    """expire: waiting | scheduled | queued | retrying -> cancelled, of jobs past expires_at."""
    return [Finished(row[0], JobState(row[1])) for row in connection.execute(_EXPIRE, {"limit": limit})]


# Tokens are made of the limited rows alone. Otherwise Postgres makes them for the skipped rows, too.
_QUEUED: Final = text(f"""
SELECT {FEED_TOKENS} FROM (
  SELECT {FED_COLUMNS} FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue AND NOT j.solo ORDER BY {URGENCY}, j.id
    LIMIT :limit OFFSET :offset
) AS j
""")


def queued(connection: Connection, queue: str, limit: int, offset: int = 0) -> FeedTokens:
    """Return queued jobs of one queue, the most urgent first, from `offset` on; not jobs that run alone."""
    parameters = {"queue": queue, "limit": limit, "offset": offset}
    return FeedTokens(*connection.execute(_QUEUED, parameters).one())


_HEADS: Final = text(f"""
SELECT q.name, found.* FROM unnest(CAST(:queues AS text[])) AS q(name), LATERAL (
  SELECT {FEED_TOKENS} FROM (
    SELECT {FED_COLUMNS} FROM {SCHEMA}.jobs j
    WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo ORDER BY {URGENCY}, j.id LIMIT :limit
  ) AS j
) AS found
""")


def heads(connection: Connection, names: Sequence[str], limit: int) -> dict[str, FeedTokens]:
    """Return the first of `queued` for several queues."""
    rows = connection.execute(_HEADS, {"queues": list(names), "limit": limit})
    return {name: FeedTokens(*row) for name, *row in rows}


# Every part reads the beginning of an index. OFFSET 0 keeps each EXISTS a single index look-up. Without it,
# Postgres may hash all queued jobs. Jobs that run alone are not fed. A distance in time is at most a day: a
# time may be infinite.
_UNTIL: Final = """
least(greatest({column}, statement_timestamp() - interval '1 day'), statement_timestamp() + interval '1 day')
  - statement_timestamp()"""
_EXPIRES: Final = f"""
(SELECT {_UNTIL.format(column="expires_at")}
  FROM {SCHEMA}.jobs WHERE expires_at IS NOT NULL AND {in_states(PENDING)} ORDER BY expires_at LIMIT 1)"""
_DUE: Final = f"""
(SELECT {_UNTIL.format(column="run_at")}
  FROM {SCHEMA}.jobs WHERE state IN ('scheduled', 'retrying') ORDER BY run_at, id LIMIT 1)"""
_FIRES: Final = f"""
(SELECT {_UNTIL.format(column="next_fire_at")}
  FROM {SCHEMA}.schedules WHERE next_fire_at IS NOT NULL ORDER BY next_fire_at LIMIT 1)"""
_DEAD: Final = f"""
EXISTS (SELECT FROM {SCHEMA}.workers WHERE lease_expires_at <= statement_timestamp())"""
_PLAIN: Final = f"""
coalesce((SELECT array_agg(q.name ORDER BY q.name) FROM {SCHEMA}.queues q
  WHERE q.paused_at IS NULL AND NOT q.limited AND EXISTS (
    SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo OFFSET 0)),
      '{{}}')"""
_LIMITED: Final = f"""
coalesce((SELECT array_agg(q.name ORDER BY q.name) FROM {SCHEMA}.queues q
  WHERE q.paused_at IS NULL AND q.limited AND (
    EXISTS (SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = q.name OFFSET 0)
    OR EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.queue = q.name AND g.started_at IS NULL OFFSET 0))),
      '{{}}')"""
_UPKEEP: Final = columns(
    Upkeep, at="statement_timestamp()", version=VERSION, expires_in=_EXPIRES, due_in=_DUE, fires_in=_FIRES,
    dead=_DEAD, plain=_PLAIN, limited=_LIMITED,
)  # fmt: skip
_LOOK: Final = text(f"SELECT {_UPKEEP}")


def look(connection: Connection) -> Upkeep:
    """Return what is expired, due or to be fed, and when the next job or schedule is due."""
    values: list[Any] = list(connection.execute(_LOOK).one())
    return Upkeep(*values)
