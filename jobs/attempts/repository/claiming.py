"""The verb claim, in its three ways: by tokens, without them, and of a job that is to run alone.

With `jobs.py`, `job_enqueue.py` and `job_moves.py` the only writer of a job's state; the same rules hold.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Result, text

from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.postgres.sql import SCHEMA, URGENCY, by_id
from callboard.jobs.postgres.statements import AnyConnection, DirectRows

#: A job's id and the epoch in which it may be claimed.
Token = tuple[UUID | str, int]

# Statements that are given ids look each row up by primary key, in a LATERAL or by `by_id`, which the planner cannot turn
# round: with statistics older than the backlog it would rather walk the whole queue for each batch. For the same reason
# the state is compared as an expression, which no partial index answers to. The ids come sorted.
_IS_QUEUED: Final = "(j.state || '') = 'queued'"
#: Larger arguments, as they are stored, are read apart: hundreds of them would not fit into a worker's memory. Bytes.
_LARGE: Final = 8 * 1024
_IS_LARGE: Final = f"pg_column_size(j.args) + pg_column_size(j.kwargs) > {_LARGE}"
_CLAIMED: Final = (
    f"j.id, j.epoch, j.claim_id, j.name, j.queue, j.priority, CASE WHEN {_IS_LARGE} THEN '' ELSE j.args::text END,"
    f" CASE WHEN {_IS_LARGE} THEN '' ELSE j.kwargs::text END, j.attempt, j.max_attempts, j.timeout,"
    " j.run_at, j.enqueued_at, j.started_at, j.hard_timeout, j.options, j.put_off"
)


def _pairs(tokens: Sequence[Token]) -> dict[str, str]:
    """Array literals of ids and epochs, in id order; put together here because the driver's way costs more than the rest."""
    ordered = sorted((str(job), int(epoch)) for job, epoch in tokens)
    ids, epochs = ",".join(job for job, _ in ordered), ",".join(str(epoch) for _, epoch in ordered)
    return {"ids": f"{{{ids}}}", "epochs": f"{{{epochs}}}"}


_ARGUMENTS: Final = text(
    f"SELECT j.id, j.args::text, j.kwargs::text FROM {SCHEMA}.jobs j WHERE j.id = ANY(:ids)"
)


def arguments(connection: AnyConnection, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
    """The arguments of these jobs, as JSON, however large."""
    return {row[0]: (row[1], row[2]) for row in connection.execute(_ARGUMENTS, {"ids": list(ids)})}


# A claim needs a live lease, and holds it (FOR KEY SHARE) until it commits: a reaper that ends the lease
# (FOR UPDATE) comes either before, and nothing is claimed, or after, and sees every claim.
_LEASE: Final = f"""lease AS MATERIALIZED (
  SELECT w.id FROM {SCHEMA}.workers w
  WHERE w.id = :worker AND w.lease_expires_at > clock_timestamp() FOR KEY SHARE
)"""
_TAKE: Final = f"""
UPDATE {SCHEMA}.jobs j SET state = 'running', attempt = j.attempt + 1, epoch = j.epoch + 1, worker_id = lease.id,
  claim_id = :claim, started_at = clock_timestamp(), progress = NULL, progress_note = NULL
FROM target, lease WHERE {by_id("target.id")}
RETURNING {_CLAIMED}, target.limited
"""
#: What `_TAKE` needs to know of a target.
_TARGET: Final = "j.id, j.epoch, j.queue, j.limit_key, q.limited"
#: A paused queue starts nothing, and a limited one only what has a grant for this very attempt.
_MAY_START: Final = f"""(q.name IS NULL OR (q.paused_at IS NULL AND (NOT q.limited
  OR EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.job_id = j.id AND g.epoch = j.epoch OFFSET 0))))"""
# The start is written down even if the grant was just revoked, since a rate counts it. What the limits counted must not
# come undone: with such a job in it, the claim waits for the disk after all.
_DATED: Final = f"""dated AS (
  INSERT INTO {SCHEMA}.grants AS g (job_id, epoch, queue, limit_key, started_at)
  SELECT t.id, t.epoch, t.queue, t.limit_key, clock_timestamp() FROM target t WHERE t.limited
  ON CONFLICT (job_id, epoch) DO UPDATE SET started_at = excluded.started_at
  RETURNING set_config('synchronous_commit', 'on', true)
)"""

# What most claims are: of queues that are neither paused nor limited, nothing of it locked by anybody. Each row is looked up
# once, by a nested loop from the tokens (a connection of ours has no other join). A row that somebody has locked is waited
# for, as long as the connection's patience lasts. The insert of nothing takes the table's lock, by which whoever limits a
# queue waits for claims under way.
_CLAIM_FREE: Final = text(f"""
WITH {_LEASE}, under_way AS (
  INSERT INTO {SCHEMA}.grants (job_id, epoch, queue) SELECT id, 0, '' FROM lease WHERE false
)
UPDATE {SCHEMA}.jobs j SET state = 'running', attempt = j.attempt + 1, epoch = j.epoch + 1, worker_id = (SELECT id FROM lease),
  claim_id = :claim, started_at = clock_timestamp(), progress = NULL, progress_note = NULL
FROM unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[])) AS token(id, epoch)
WHERE {by_id("token.id")} AND j.epoch = token.epoch AND {_IS_QUEUED} AND NOT j.solo AND (SELECT id FROM lease) IS NOT NULL
  AND j.queue <> ALL (ARRAY(SELECT q.name FROM {SCHEMA}.queues q WHERE q.paused_at IS NOT NULL OR q.limited))
RETURNING {_CLAIMED}, false
""")


def claim_free(
    connection: AnyConnection, worker: UUID, claim_id: UUID, tokens: Sequence[Token]
) -> list[ClaimedJob]:
    """claim: queued -> running, for the tokens that still hold, of queues without limits; attempt+1, epoch+1."""
    parameters = {"worker": worker, "claim": claim_id, **_pairs(tokens)}
    return _claimed(connection.execute(_CLAIM_FREE, parameters))


_CLAIM: Final = text(f"""
WITH {_LEASE}, target AS MATERIALIZED (
  SELECT found.* FROM unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[])) AS token(id, epoch), LATERAL (
    SELECT {_TARGET} FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue
    WHERE j.id = token.id AND j.epoch = token.epoch AND {_IS_QUEUED} AND NOT j.solo AND {_MAY_START} AND EXISTS (SELECT FROM lease)
    FOR UPDATE OF j SKIP LOCKED
  ) AS found
), {_DATED}
{_TAKE}
""")


def claim(
    connection: AnyConnection, worker: UUID, claim_id: UUID, tokens: Sequence[Token]
) -> list[ClaimedJob]:
    """claim: queued -> running, for the tokens that still hold, of any queue; what somebody has locked is left alone."""
    parameters = {"worker": worker, "claim": claim_id, **_pairs(tokens)}
    return _claimed(connection.execute(_CLAIM, parameters))


_CLAIM_OLDEST: Final = text(f"""
WITH {_LEASE}, q AS MATERIALIZED (
  SELECT name, paused_at, limited FROM {SCHEMA}.queues WHERE name = :queue
), free AS MATERIALIZED (
  SELECT j.id, j.epoch, j.queue, j.limit_key, false AS limited FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue AND NOT j.solo AND EXISTS (SELECT FROM lease)
    AND NOT EXISTS (SELECT FROM q WHERE q.paused_at IS NOT NULL OR q.limited)
  ORDER BY {URGENCY}, j.id LIMIT :limit FOR UPDATE OF j SKIP LOCKED
), granted AS MATERIALIZED (
  SELECT found.* FROM q, {SCHEMA}.grants g, LATERAL (
    SELECT {_TARGET} FROM {SCHEMA}.jobs j
    WHERE j.id = g.job_id AND j.epoch = g.epoch AND {_IS_QUEUED} AND NOT j.solo AND EXISTS (SELECT FROM lease)
    FOR UPDATE OF j SKIP LOCKED
  ) AS found
  WHERE q.limited AND q.paused_at IS NULL AND g.queue = :queue AND g.started_at IS NULL LIMIT :limit
), target AS MATERIALIZED (
  SELECT * FROM free UNION ALL SELECT * FROM granted
), {_DATED}
{_TAKE}
""")


def claim_oldest(
    connection: AnyConnection, worker: UUID, claim_id: UUID, queue: str, limit: int
) -> list[ClaimedJob]:
    """claim without tokens, while Redis is away: the most urgent of one queue that nobody else is taking."""
    parameters = {"worker": worker, "claim": claim_id, "queue": queue, "limit": limit}
    return _claimed(connection.execute(_CLAIM_OLDEST, parameters))


_CLAIM_SOLO: Final = text(f"""
WITH {_LEASE}, target AS MATERIALIZED (
  SELECT {_TARGET} FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue
  WHERE j.state = 'queued' AND j.solo AND j.name = ANY(:names) AND (CAST(:queues AS text[]) = '{{}}' OR j.queue = ANY(:queues))
    AND {_MAY_START} AND EXISTS (SELECT FROM lease)
  ORDER BY {URGENCY}, j.id LIMIT 1 FOR UPDATE OF j SKIP LOCKED
), {_DATED}
{_TAKE}
""")


def claim_solo(
    connection: AnyConnection, worker: UUID, claim_id: UUID, names: Sequence[str], wanted: Sequence[str]
) -> list[ClaimedJob]:
    """claim of one job that is to run alone, in a child of its own; no other claim takes it. wanted: queues; none: any."""
    parameters = {"worker": worker, "claim": claim_id, "names": list(names), "queues": list(wanted)}
    return _claimed(connection.execute(_CLAIM_SOLO, parameters))


_SOLO_WAITING: Final = text(f"""
SELECT count(*) FROM (
  SELECT FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue
  WHERE j.state = 'queued' AND j.solo AND (CAST(:queues AS text[]) = '{{}}' OR j.queue = ANY(:queues)) AND {_MAY_START}
    AND j.name IN (SELECT unnest(w.job_names) FROM {SCHEMA}.workers w WHERE w.id = ANY(:workers))
  LIMIT :limit
) AS waiting
""")


def solo_waiting(
    connection: AnyConnection, workers: Sequence[UUID], wanted: Sequence[str], limit: int
) -> int:
    """How many jobs, up to the limit, `claim_solo` would find that these workers know. wanted: queues; none: any."""
    parameters = {"workers": list(workers), "queues": list(wanted), "limit": limit}
    return int(connection.execute(_SOLO_WAITING, parameters).scalar_one())


_CLAIMED_BY: Final = text(
    f"SELECT {_CLAIMED}, false FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.worker_id = :worker AND j.claim_id = :claim"
)


def claimed_by(connection: AnyConnection, worker: UUID, claim_id: UUID) -> list[ClaimedJob]:
    """What a claim took whose answer was lost on the way."""
    return _claimed(connection.execute(_CLAIMED_BY, {"worker": worker, "claim": claim_id}))


def _claimed(rows: Result[Any] | DirectRows) -> list[ClaimedJob]:
    return [ClaimedJob._make(row) for row in rows.all()]
