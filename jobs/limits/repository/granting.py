"""Grants within the limits of queues. A grant is the permission for one attempt to start.

The feeder makes grants here. The worker that ends a job hands its place on, see
`attempts/repository/handing_on.py`.

Every count reads running jobs and unused grants in one statement. A claim turns a grant into a running job:
the statement sees the state before the claim or after it, never between.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.postgres.sql import FED_COLUMNS, FEED_TOKENS, SCHEMA, URGENCY, columns

_SETTLE: Final = text(f"LOCK TABLE {SCHEMA}.grants IN SHARE ROW EXCLUSIVE MODE")


def settle(connection: Connection) -> None:
    """Wait for all claims that started before: each of them locks the table of grants."""
    connection.execute(_SETTLE)


# A grant whose job is not queued in the grant's epoch can never be used again: epochs only grow.
_SWEEP: Final = text(f"""
DELETE FROM {SCHEMA}.grants g WHERE g.queue = :queue AND (
  g.started_at <= statement_timestamp() - CAST(:keep AS interval)
  OR (g.started_at IS NULL AND NOT EXISTS (
    SELECT FROM {SCHEMA}.jobs j WHERE j.id = g.job_id AND j.epoch = g.epoch
      AND (j.state || '') = 'queued' OFFSET 0)))
""")


def sweep(connection: Connection, queue: str, keep: timedelta) -> None:
    """Delete grants that cannot be used any more, and starts that no rate counts any more."""
    connection.execute(_SWEEP, {"queue": queue, "keep": keep})


# A folded row gets the time of its newest start, so older starts in it count up to a slice of the period
# longer. This happens only where many starts lie close together.
_FOLD: Final = text(f"""
WITH crowd AS MATERIALIZED (
  SELECT CASE WHEN :by_key THEN g.limit_key END AS key,
    date_bin(CAST(:slice AS interval), g.started_at, timestamptz '2020-01-01 00:00+00') AS slice
  FROM {SCHEMA}.grants g
  WHERE g.queue = :queue AND g.started_at < statement_timestamp() - 2 * CAST(:slice AS interval)
    AND g.uses = 1
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
#: A period is folded in this many slices. A slice is folded when it has this many starts.
_SLICES: Final = 200
_CROWD: Final = 10


def fold(connection: Connection, queue: str, period: timedelta, *, by_key: bool) -> None:
    """Merge many past starts into one row, so that a high rate needs few rows."""
    parameters = {"queue": queue, "slice": period / _SLICES, "crowd": _CROWD, "by_key": by_key}
    connection.execute(_FOLD, parameters)


class LimitUse(NamedTuple):
    """How much of a queue's limits is in use."""

    running: int
    #: Jobs that are granted and have not started.
    outstanding: int
    #: Jobs that started within the rate's period.
    started: int


_USE: Final = text(f"""
SELECT
  (SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.queue = :queue) AS running,
  (SELECT count(*) FROM {SCHEMA}.grants g WHERE g.queue = :queue AND g.started_at IS NULL) AS outstanding,
  (SELECT coalesce(sum(g.uses), 0) FROM {SCHEMA}.grants g
   WHERE g.queue = :queue AND g.started_at > statement_timestamp() - CAST(:period AS interval)) AS started
""")


def use(connection: Connection, queue: str, period: timedelta) -> LimitUse:
    """Return the use of the whole queue. Running jobs count with and without a grant."""
    row = connection.execute(_USE, {"queue": queue, "period": period}).one()
    return LimitUse(row.running, row.outstanding, int(row.started))


_BUSIEST_KEY: Final = text(f"""
SELECT coalesce(max(n), 0) FROM (
  SELECT count(*) AS n FROM (
    SELECT j.limit_key AS key FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.queue = :queue
    UNION ALL
    SELECT g.limit_key FROM {SCHEMA}.grants g WHERE g.queue = :queue AND g.started_at IS NULL
  ) AS busy WHERE key IS NOT NULL GROUP BY key) AS each
""")


def busiest_key(connection: Connection, queue: str) -> int:
    """Return how many jobs of one key run or are granted, for the key that has the most."""
    return int(connection.execute(_BUSIEST_KEY, {"queue": queue}).scalar_one())


_NEXT_FREE: Final = text(f"""
SELECT extract(epoch FROM min(g.started_at) + CAST(:period AS interval) - clock_timestamp())::float8
FROM {SCHEMA}.grants g
WHERE g.queue = :queue AND g.started_at > statement_timestamp() - CAST(:period AS interval)
  AND EXISTS (SELECT FROM {SCHEMA}.jobs j WHERE j.state = 'queued' AND j.queue = :queue OFFSET :granted)
""")


def next_free(connection: Connection, queue: str, period: timedelta, granted: int) -> float | None:
    """Return in how many seconds the oldest start no longer counts for a rate.

    None: no start counts, or no more jobs than those that are `granted` are queued.
    """
    parameters = {"queue": queue, "period": period, "granted": granted}
    seconds = connection.execute(_NEXT_FREE, parameters).scalar_one()
    return None if seconds is None else float(seconds)


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
  (SELECT count(*) FROM {SCHEMA}.grants g WHERE g.queue = :queue AND g.limit_key IS NULL
    AND g.started_at IS NULL), 0
""")


def key_use(
    connection: Connection, queue: str, keys: Sequence[str], period: timedelta
) -> dict[str | None, LimitUse]:
    """Return the use of each of these keys. The entry None is the use of the jobs without a key."""
    rows = connection.execute(_KEY_USE, {"queue": queue, "keys": list(keys), "period": period})
    return {row.key: LimitUse(row.running, row.outstanding, row.started) for row in rows}


# One index look-up for each key, independent of its number of jobs.
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
    """Return up to `limit` keys with queued jobs: first the keys after `after`, then the others from the
    start.
    """
    parameters = {"queue": queue, "after": after, "limit": limit}
    found = list(connection.execute(_KEYS, parameters).scalars())
    if after and len(found) < limit:
        again = connection.execute(_KEYS, parameters | {"after": "", "limit": limit - len(found)}).scalars()
        known = set(found)
        found += [key for key in again if key not in known]
    return found


class Candidate(NamedTuple):
    """A queued job without a grant."""

    key: str | None
    id: UUID
    epoch: int


_NO_GRANT: Final = (
    f"NOT EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.job_id = j.id AND g.epoch = j.epoch OFFSET 0)"
)
# A range of one key, in its order: with `=`, Postgres may walk the queue until it meets the key.
_HEADS: Final = text(f"""
SELECT {columns(Candidate, key="k.key", id="found.id", epoch="found.epoch")}
FROM unnest(CAST(:keys AS text[]), CAST(:counts AS int[])) AS k(key, count), LATERAL (
  SELECT j.id, j.epoch FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue AND j.limit_key >= k.key AND j.limit_key <= k.key
    AND j.limit_key IS NOT NULL AND {_NO_GRANT}
  ORDER BY j.limit_key, {URGENCY}, j.id LIMIT k.count
) AS found
""")


def heads(connection: Connection, queue: str, counts: Sequence[tuple[str, int]]) -> list[Candidate]:
    """Return the most urgent jobs of each key, up to its count."""
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
SELECT {columns(Candidate, "j", key="NULL")} FROM (
  SELECT j.id, j.epoch, j.limit_key FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue
    AND ({URGENCY}, j.id) > (CAST(:urgency AS interval), CAST(:id AS uuid))
  ORDER BY {URGENCY}, j.id LIMIT :window
) j WHERE j.limit_key IS NULL AND {_NO_GRANT} LIMIT :limit
""")
_WINDOW_END: Final = text(f"""
SELECT {columns(Place, "j", urgency=URGENCY)} FROM {SCHEMA}.jobs j
WHERE j.state = 'queued' AND j.queue = :queue
  AND ({URGENCY}, j.id) > (CAST(:urgency AS interval), CAST(:id AS uuid))
ORDER BY {URGENCY}, j.id LIMIT 1 OFFSET :window
""")


def plain(connection: Connection, queue: str, after: Place, window: int, limit: int) -> list[Candidate]:
    """Return the most urgent jobs without a key among the `window` jobs after a place."""
    parameters = {"queue": queue, "urgency": after.urgency, "id": after.id, "window": window, "limit": limit}
    return [Candidate(*row) for row in connection.execute(_PLAIN, parameters)]


def place_behind(connection: Connection, queue: str, after: Place, window: int) -> Place:
    """Return the place that lies `window` jobs after this one; START when the queue ends before."""
    parameters = {"queue": queue, "urgency": after.urgency, "id": after.id, "window": window - 1}
    row = connection.execute(_WINDOW_END, parameters).one_or_none()
    return START if row is None else Place(*row)


_GRANT: Final = text(f"""
INSERT INTO {SCHEMA}.grants (job_id, epoch, queue, limit_key)
SELECT c.id, c.epoch, :queue, c.key
FROM unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[]), CAST(:keys AS text[])) AS c(id, epoch, key)
ORDER BY c.id ON CONFLICT DO NOTHING
""")


def grant(connection: Connection, queue: str, chosen: Sequence[Candidate]) -> None:
    """Grant these attempts. The caller holds the queue's lock and has counted under it."""
    parameters = {
        "queue": queue,
        "ids": [str(one.id) for one in chosen],
        "epochs": [one.epoch for one in chosen],
        "keys": [one.key for one in chosen],
    }
    connection.execute(_GRANT, parameters)


_OUTSTANDING: Final = text(f"""
SELECT {FEED_TOKENS} FROM {SCHEMA}.grants g, LATERAL (
  SELECT {FED_COLUMNS} FROM {SCHEMA}.jobs j
  WHERE j.id = g.job_id AND j.epoch = g.epoch AND (j.state || '') = 'queued' AND NOT j.solo OFFSET 0
) AS j
WHERE g.queue = :queue AND g.started_at IS NULL
""")


def outstanding(connection: Connection, queue: str) -> FeedTokens:
    """Return the tokens of granted jobs that have not started."""
    return FeedTokens(*connection.execute(_OUTSTANDING, {"queue": queue}).one())
