"""Limits of queues and the grants within them. A grant is leave for one attempt to start; the feeder alone makes them.

Whatever counts here reads running jobs and outstanding grants in one statement: a claim turns one into the other, and is
seen before or after, never between.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, text

from callboard.jobs.model.queue_limits import Limits, Rate
from callboard.jobs.postgres.sql import SCHEMA, URGENCY

LIMITS: Final = "q.concurrency, q.rate, q.rate_period, q.key_concurrency, q.key_rate, q.key_rate_period"


def limits_of(row: Row[Any]) -> Limits:
    """What the columns of LIMITS say."""
    return Limits(
        row.concurrency,
        None if row.rate is None else Rate(row.rate, row.rate_period),
        row.key_concurrency,
        None if row.key_rate is None else Rate(row.key_rate, row.key_rate_period),
    )


_LOCK: Final = text(f"""
SELECT {LIMITS}, q.xmin::text AS version FROM {SCHEMA}.queues q
WHERE q.name = :queue AND q.limited AND q.paused_at IS NULL FOR NO KEY UPDATE
""")


def lock(connection: Connection, queue: str) -> tuple[Limits, str] | None:
    """The limits of a queue, and their version, locked: one at a time makes grants. None: nothing is to be granted."""
    row = connection.execute(_LOCK, {"queue": queue}).one_or_none()
    return None if row is None else (limits_of(row), str(row.version))


_SETTLE: Final = text(f"LOCK TABLE {SCHEMA}.grants IN SHARE ROW EXCLUSIVE MODE")


def settle(connection: Connection) -> None:
    """Wait for every claim that began before these limits held. Claims alone, and the feeder, write grants."""
    connection.execute(_SETTLE)


_SET: Final = text(f"""
UPDATE {SCHEMA}.queues SET concurrency = :concurrency, rate = :rate, rate_period = :rate_period,
  key_concurrency = :key_concurrency, key_rate = :key_rate, key_rate_period = :key_rate_period
WHERE name = :queue
""")
_LOCK_ANY: Final = text(f"SELECT {LIMITS} FROM {SCHEMA}.queues q WHERE q.name = :queue FOR NO KEY UPDATE")
_REVOKE: Final = text(f"DELETE FROM {SCHEMA}.grants WHERE queue = :queue AND started_at IS NULL")
_FORGET: Final = text(f"DELETE FROM {SCHEMA}.grants WHERE queue = :queue")


def now(connection: Connection, queue: str) -> Limits:
    """The limits of a queue that there is, locked against others who would change them."""
    return limits_of(connection.execute(_LOCK_ANY, {"queue": queue}).one())


def change(connection: Connection, queue: str, limits: Limits) -> None:
    """Set the limits; what was granted under the old ones and has not started is granted anew, or not."""
    parameters = {
        "queue": queue,
        "concurrency": limits.concurrency,
        "rate": limits.rate and limits.rate.amount,
        "rate_period": limits.rate and limits.rate.period,
        "key_concurrency": limits.key_concurrency,
        "key_rate": limits.key_rate and limits.key_rate.amount,
        "key_rate_period": limits.key_rate and limits.key_rate.period,
    }
    connection.execute(_SET, parameters)
    connection.execute(_REVOKE if limits.any else _FORGET, {"queue": queue})


# The job of a grant is queued in its epoch, or will never again be: epochs only grow.
_SWEEP: Final = text(f"""
DELETE FROM {SCHEMA}.grants g WHERE g.queue = :queue AND (
  g.started_at <= statement_timestamp() - CAST(:keep AS interval)
  OR (g.started_at IS NULL AND NOT EXISTS (
    SELECT FROM {SCHEMA}.jobs j WHERE j.id = g.job_id AND j.epoch = g.epoch AND (j.state || '') = 'queued' OFFSET 0)))
""")


def sweep(connection: Connection, queue: str, keep: timedelta) -> None:
    """Remove grants that nobody can use any more, and starts that no rate counts any more."""
    connection.execute(_SWEEP, {"queue": queue, "keep": keep})


# A folded row is as old as its youngest start, so it counts a little longer than each of them: by a hundredth of the
# period, and only where that many starts lie so close together.
_FOLD: Final = text(f"""
WITH crowd AS MATERIALIZED (
  SELECT CASE WHEN :by_key THEN g.limit_key END AS key, date_bin(CAST(:slice AS interval), g.started_at, timestamptz '2020-01-01 00:00+00') AS slice
  FROM {SCHEMA}.grants g
  WHERE g.queue = :queue AND g.started_at < statement_timestamp() - 2 * CAST(:slice AS interval) AND g.uses = 1
  GROUP BY 1, 2 HAVING count(*) >= :crowd LIMIT 1000
), gone AS (
  DELETE FROM {SCHEMA}.grants g USING crowd c
  WHERE g.queue = :queue AND g.started_at >= c.slice AND g.started_at < c.slice + CAST(:slice AS interval)
    AND (NOT :by_key OR g.limit_key IS NOT DISTINCT FROM c.key)
  RETURNING c.key, c.slice, g.started_at, g.uses
)
INSERT INTO {SCHEMA}.grants (job_id, epoch, queue, limit_key, started_at, uses)
SELECT gen_random_uuid(), 0, :queue, key, max(started_at), sum(uses) FROM gone GROUP BY key, slice
""")
#: Into so many slices the past of a period is folded.
_SLICES: Final = 100
_CROWD: Final = 50


def fold(connection: Connection, queue: str, period: timedelta, *, by_key: bool) -> None:
    """Let one row stand for many starts of the past, so that what a large rate remembers stays small."""
    parameters = {"queue": queue, "slice": period / _SLICES, "crowd": _CROWD, "by_key": by_key}
    connection.execute(_FOLD, parameters)


class Use(NamedTuple):
    """What is taken of a queue's limits."""

    running: int
    #: Granted, and not started.
    outstanding: int
    #: Started within the rate's period.
    started: int


_USE: Final = text(f"""
SELECT
  (SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.queue = :queue) AS running,
  (SELECT count(*) FROM {SCHEMA}.grants g WHERE g.queue = :queue AND g.started_at IS NULL) AS outstanding,
  (SELECT coalesce(sum(g.uses), 0) FROM {SCHEMA}.grants g
   WHERE g.queue = :queue AND g.started_at > statement_timestamp() - CAST(:period AS interval)) AS started
""")


def use(connection: Connection, queue: str, period: timedelta) -> Use:
    """What is taken, of the queue as a whole; running jobs count whether they had a grant or not."""
    row = connection.execute(_USE, {"queue": queue, "period": period}).one()
    return Use(row.running, row.outstanding, int(row.started))


_KEY_USE: Final = text(f"""
WITH busy AS MATERIALIZED (
  SELECT j.limit_key AS key, count(*) AS n FROM {SCHEMA}.jobs j
  WHERE j.state = 'running' AND j.queue = :queue GROUP BY 1
)
SELECT k.key, coalesce((SELECT b.n FROM busy b WHERE b.key IS NOT DISTINCT FROM k.key), 0)::bigint AS running,
  coalesce(g.outstanding, 0)::bigint AS outstanding, coalesce(g.started, 0)::bigint AS started
FROM unnest(CAST(:keys AS text[])) AS k(key) LEFT JOIN LATERAL (
  SELECT count(*) FILTER (WHERE g.started_at IS NULL) AS outstanding,
    sum(g.uses) FILTER (WHERE g.started_at > statement_timestamp() - CAST(:period AS interval)) AS started
  FROM {SCHEMA}.grants g WHERE g.queue = :queue AND g.limit_key = k.key AND g.limit_key IS NOT NULL
) g ON true
UNION ALL
SELECT NULL, coalesce((SELECT b.n FROM busy b WHERE b.key IS NULL), 0)::bigint,
  (SELECT count(*) FROM {SCHEMA}.grants g WHERE g.queue = :queue AND g.limit_key IS NULL AND g.started_at IS NULL), 0
""")


def key_use(
    connection: Connection, queue: str, keys: Sequence[str], period: timedelta
) -> dict[str | None, Use]:
    """The same of these keys, and under None of the jobs that have no key."""
    rows = connection.execute(_KEY_USE, {"queue": queue, "keys": list(keys), "period": period})
    return {row.key: Use(row.running, row.outstanding, row.started) for row in rows}


# From key to key, one look into the index for each: however many jobs a key has, it costs no more.
_KEYS: Final = text(f"""
WITH RECURSIVE k(key, n) AS (
  SELECT * FROM (
    SELECT j.limit_key, 1 FROM {SCHEMA}.jobs j
    WHERE j.state = 'queued' AND j.queue = :queue AND j.limit_key > :after AND j.limit_key IS NOT NULL
    ORDER BY j.limit_key LIMIT 1) AS first
  UNION ALL
  SELECT found.limit_key, k.n + 1 FROM k, LATERAL (
    SELECT j.limit_key FROM {SCHEMA}.jobs j
    WHERE j.state = 'queued' AND j.queue = :queue AND j.limit_key > k.key AND j.limit_key IS NOT NULL
    ORDER BY j.limit_key LIMIT 1) AS found
  WHERE k.n < :limit
)
SELECT key FROM k ORDER BY n
""")


def keys(connection: Connection, queue: str, after: str, limit: int) -> list[str]:
    """Up to `limit` keys that have queued jobs, from the one after `after` on, and round again from the first."""
    parameters = {"queue": queue, "after": after, "limit": limit}
    found = list(connection.execute(_KEYS, parameters).scalars())
    if after and len(found) < limit:
        again = connection.execute(_KEYS, parameters | {"after": "", "limit": limit - len(found)}).scalars()
        known = set(found)
        found += [key for key in again if key not in known]
    return found


class Candidate(NamedTuple):
    """A queued job that has no grant."""

    key: str | None
    id: UUID
    epoch: int


_NO_GRANT: Final = (
    f"NOT EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.job_id = j.id AND g.epoch = j.epoch OFFSET 0)"
)
_HEADS: Final = text(f"""
SELECT k.key, found.id, found.epoch
FROM unnest(CAST(:keys AS text[]), CAST(:counts AS int[])) AS k(key, count), LATERAL (
  SELECT j.id, j.epoch FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue AND j.limit_key = k.key AND j.limit_key IS NOT NULL AND {_NO_GRANT}
  ORDER BY {URGENCY}, j.id LIMIT k.count
) AS found
""")


def heads(connection: Connection, queue: str, counts: Sequence[tuple[str, int]]) -> list[Candidate]:
    """The most urgent jobs of each key, up to its count."""
    parameters = {
        "queue": queue,
        "keys": [key for key, _ in counts],
        "counts": [count for _, count in counts],
    }
    return [Candidate(*row) for row in connection.execute(_HEADS, parameters)]


class Place(NamedTuple):
    """A place in the order of a queue."""

    urgency: timedelta
    id: UUID


START: Final = Place(timedelta(days=-100_000), UUID(int=0))

_PLAIN: Final = text(f"""
SELECT NULL, j.id, j.epoch FROM (
  SELECT j.id, j.epoch, j.limit_key FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue AND ({URGENCY}, j.id) > (CAST(:urgency AS interval), CAST(:id AS uuid))
  ORDER BY {URGENCY}, j.id LIMIT :window
) j WHERE j.limit_key IS NULL AND {_NO_GRANT} LIMIT :limit
""")
_WINDOW_END: Final = text(f"""
SELECT {URGENCY}, j.id FROM {SCHEMA}.jobs j
WHERE j.state = 'queued' AND j.queue = :queue AND ({URGENCY}, j.id) > (CAST(:urgency AS interval), CAST(:id AS uuid))
ORDER BY {URGENCY}, j.id LIMIT 1 OFFSET :window
""")


def plain(connection: Connection, queue: str, after: Place, window: int, limit: int) -> list[Candidate]:
    """The most urgent jobs without a key among the `window` jobs that follow a place."""
    parameters = {"queue": queue, "urgency": after.urgency, "id": after.id, "window": window, "limit": limit}
    return [Candidate(*row) for row in connection.execute(_PLAIN, parameters)]


def place_behind(connection: Connection, queue: str, after: Place, window: int) -> Place:
    """The place `window` jobs on; START when the queue ends before."""
    parameters = {"queue": queue, "urgency": after.urgency, "id": after.id, "window": window - 1}
    row = connection.execute(_WINDOW_END, parameters).one_or_none()
    return START if row is None else Place(*row)


_GRANT: Final = text(f"""
INSERT INTO {SCHEMA}.grants (job_id, epoch, queue, limit_key)
SELECT c.id, c.epoch, :queue, c.key
FROM unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[]), CAST(:keys AS text[])) AS c(id, epoch, key)
ON CONFLICT DO NOTHING
""")


def grant(connection: Connection, queue: str, chosen: Sequence[Candidate]) -> None:
    """Give these attempts leave to start; only by who holds the queue's lock and has counted."""
    parameters = {
        "queue": queue,
        "ids": [str(one.id) for one in chosen],
        "epochs": [one.epoch for one in chosen],
        "keys": [one.key for one in chosen],
    }
    connection.execute(_GRANT, parameters)


_OUTSTANDING: Final = text(f"""
SELECT found.* FROM {SCHEMA}.grants g, LATERAL (
  SELECT j.id::text, j.epoch, j.priority, floor(extract(epoch FROM j.run_at) * 1000)::bigint FROM {SCHEMA}.jobs j
  WHERE j.id = g.job_id AND j.epoch = g.epoch AND (j.state || '') = 'queued' AND NOT j.solo OFFSET 0
) AS found
WHERE g.queue = :queue AND g.started_at IS NULL
""")


def outstanding(connection: Connection, queue: str) -> list[tuple[str, int, int, int]]:
    """The tokens of what may start: id, epoch, priority, milliseconds, as the transport feeds them."""
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(_OUTSTANDING, {"queue": queue})]
