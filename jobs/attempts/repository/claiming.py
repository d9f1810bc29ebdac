"""The verb claim in three forms: with tokens, without tokens, and for a job that must run alone."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text

from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.postgres.protocols import Rows, Statements
from callboard.jobs.postgres.sql import NEXT_EPOCH, SCHEMA, URGENCY, by_id, columns

#: A job's id and the epoch in which it may be claimed.
Token = tuple[UUID | str, int]

# Statements that get ids look each row up by primary key, in a LATERAL or by `by_id`. The planner cannot
# reverse such a join. With statistics older than the backlog it would otherwise read the whole queue for each
# batch. For the same reason the state is compared as an expression, which no partial index matches. The ids
# are sorted.
_IS_QUEUED: Final = "(j.state || '') = 'queued'"
#: Larger arguments are read separately, because hundreds of them would not fit into memory. Bytes as stored.
_LARGE: Final = 8 * 1024
_IS_LARGE: Final = f"pg_column_size(j.args) + pg_column_size(j.kwargs) > {_LARGE}"


def claimed_columns(limited: str) -> str:
    """Return the select list of ClaimedJob. limited: the SQL that says whether the job's queue is limited."""
    return columns(
        ClaimedJob,
        "j",
        args_json=f"CASE WHEN {_IS_LARGE} THEN '' ELSE j.args::text END",
        kwargs_json=f"CASE WHEN {_IS_LARGE} THEN '' ELSE j.kwargs::text END",
        limited=limited,
    )


def _pairs(tokens: Sequence[Token]) -> dict[str, str]:
    """Return array literals of ids and epochs, in id order.

    The driver's own encoding costs more than the statement.
    """
    ordered = sorted((str(job), int(epoch)) for job, epoch in tokens)
    ids, epochs = ",".join(job for job, _ in ordered), ",".join(str(epoch) for _, epoch in ordered)
    return {"ids": f"{{{ids}}}", "epochs": f"{{{epochs}}}"}


_ARGUMENTS: Final = text(
    f"SELECT j.id, j.args::text, j.kwargs::text FROM {SCHEMA}.jobs j WHERE j.id = ANY(:ids)"
)


def arguments(connection: Statements, ids: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
    """Return the arguments of these jobs as JSON, of any size."""
    return {row[0]: (row[1], row[2]) for row in connection.execute(_ARGUMENTS, {"ids": list(ids)})}


# A claim needs a live lease and locks it (FOR KEY SHARE) until its commit. A reaper that ends the lease (FOR
# UPDATE) comes either before the claim, and then nothing is claimed, or after it, and then it sees every
# claim.
LEASE: Final = f"""lease AS MATERIALIZED (
  SELECT w.id FROM {SCHEMA}.workers w
  WHERE w.id = :worker AND w.lease_expires_at > clock_timestamp() FOR KEY SHARE
)"""
_TAKE: Final = f"""
UPDATE {SCHEMA}.jobs j SET state = 'running', epoch = {NEXT_EPOCH},
  attempt = least(j.attempt, 2147483646) + 1,
  worker_id = lease.id,
  claim_id = :claim, started_at = begin.at, progress = NULL, progress_note = NULL
FROM target, lease, begin WHERE {by_id("target.id")}
RETURNING {claimed_columns("target.limited")}
"""
#: The columns of a target that `_TAKE` reads.
_TARGET: Final = "j.id, j.epoch, j.queue, j.limit_key, q.limited"
#: From a paused queue no job may start, and from a limited one only a job that has a grant for this attempt.
_MAY_START: Final = f"""(q.name IS NULL OR (q.paused_at IS NULL AND (NOT q.limited
  OR EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.job_id = j.id AND g.epoch = j.epoch OFFSET 0))))"""
# The start is stored even if the grant was revoked meanwhile, because a rate counts it. It must survive a
# crash of Postgres, so the claim of a limited job waits for the disk.
#
# Job and grant have the same time, taken after the snapshot that shows the grant.
_DATED: Final = f"""begin AS MATERIALIZED (
  SELECT clock_timestamp() AS at
), dated AS (
  INSERT INTO {SCHEMA}.grants AS g (job_id, epoch, queue, limit_key, started_at)
  SELECT t.id, t.epoch, t.queue, t.limit_key, begin.at FROM target t, begin WHERE t.limited
  ON CONFLICT (job_id, epoch) DO UPDATE SET started_at = excluded.started_at
  RETURNING set_config('synchronous_commit', 'on', true)
)"""

# The usual claim: queues without pause and limits, rows without locks. A nested loop from the tokens looks
# each row up once (our connections allow no other join). For a locked row the statement waits until the
# connection's lock timeout. The insert of no rows takes the lock of the table `grants`. A transaction that
# limits a queue waits for that lock, and so for all running claims.
_CLAIM_FREE: Final = text(f"""
WITH {LEASE}, under_way AS (
  INSERT INTO {SCHEMA}.grants (job_id, epoch, queue) SELECT id, 0, '' FROM lease WHERE false
)
UPDATE {SCHEMA}.jobs j SET state = 'running', epoch = {NEXT_EPOCH},
  attempt = least(j.attempt, 2147483646) + 1,
  worker_id = (SELECT id FROM lease), claim_id = :claim, started_at = clock_timestamp(), progress = NULL,
    progress_note = NULL
FROM unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[])) AS token(id, epoch)
WHERE {by_id("token.id")} AND j.epoch = token.epoch AND {_IS_QUEUED} AND NOT j.solo
  AND (SELECT id FROM lease) IS NOT NULL
  AND j.queue <> ALL (ARRAY(SELECT q.name FROM {SCHEMA}.queues q WHERE q.paused_at IS NOT NULL OR q.limited))
RETURNING {claimed_columns("false")}
""")


def claim_free(
    connection: Statements, worker: UUID, claim_id: UUID, tokens: Sequence[Token]
) -> list[ClaimedJob]:
    """claim: queued -> running, by current tokens, from queues without limits; attempt+1, epoch+1."""
    parameters = {"worker": worker, "claim": claim_id, **_pairs(tokens)}
    return _claimed(connection.execute(_CLAIM_FREE, parameters))


_CLAIM: Final = text(f"""
WITH {LEASE}, target AS MATERIALIZED (
  SELECT found.* FROM unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[])) AS token(id, epoch), LATERAL (
    SELECT {_TARGET} FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue
    WHERE j.id = token.id AND j.epoch = token.epoch AND {_IS_QUEUED} AND NOT j.solo AND {_MAY_START}
      AND EXISTS (SELECT FROM lease)
    FOR UPDATE OF j SKIP LOCKED
  ) AS found
), {_DATED}
{_TAKE}
""")


def claim(connection: Statements, worker: UUID, claim_id: UUID, tokens: Sequence[Token]) -> list[ClaimedJob]:
    """claim: queued -> running, by current tokens, from any queue. Locked rows are skipped."""
    parameters = {"worker": worker, "claim": claim_id, **_pairs(tokens)}
    return _claimed(connection.execute(_CLAIM, parameters))


#: The grants of a queue that have not been used, the oldest first, and the condition for a job of grant `g`.
OLDEST_GRANTS: Final = f"""(
    SELECT * FROM {SCHEMA}.grants WHERE queue = :queue AND started_at IS NULL ORDER BY granted_at OFFSET 0
  )"""
GRANTED: Final = f"j.id = g.job_id AND j.epoch = g.epoch AND {_IS_QUEUED} AND NOT j.solo"
_CLAIM_OLDEST: Final = text(f"""
WITH {LEASE}, q AS MATERIALIZED (
  SELECT name, paused_at, limited FROM {SCHEMA}.queues WHERE name = :queue
), free AS MATERIALIZED (
  SELECT j.id, j.epoch, j.queue, j.limit_key, false AS limited FROM {SCHEMA}.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue AND NOT j.solo AND EXISTS (SELECT FROM lease)
    AND NOT EXISTS (SELECT FROM q WHERE q.paused_at IS NOT NULL OR q.limited)
  ORDER BY {URGENCY}, j.id LIMIT :limit FOR UPDATE OF j SKIP LOCKED
), granted AS MATERIALIZED (
  SELECT found.* FROM q, {OLDEST_GRANTS} AS g, LATERAL (
    SELECT {_TARGET} FROM {SCHEMA}.jobs j WHERE {GRANTED} AND EXISTS (SELECT FROM lease)
    FOR UPDATE OF j SKIP LOCKED
  ) AS found
  WHERE q.limited AND q.paused_at IS NULL LIMIT :limit
), target AS MATERIALIZED (
  SELECT * FROM free UNION ALL SELECT * FROM granted
), {_DATED}
{_TAKE}
""")


def claim_oldest(
    connection: Statements, worker: UUID, claim_id: UUID, queue: str, limit: int
) -> list[ClaimedJob]:
    """claim without tokens: the most urgent jobs of a queue. Of a limited one: those with the oldest grants.

    Locked rows are skipped.
    """
    parameters = {"worker": worker, "claim": claim_id, "queue": queue, "limit": limit}
    return _claimed(connection.execute(_CLAIM_OLDEST, parameters))


_CLAIM_SOLO: Final = text(f"""
WITH {LEASE}, target AS MATERIALIZED (
  SELECT {_TARGET} FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue
  WHERE j.state = 'queued' AND j.solo AND j.name = ANY(:names)
    AND (CAST(:queues AS text[]) = '{{}}' OR j.queue = ANY(:queues)) AND {_MAY_START}
      AND EXISTS (SELECT FROM lease)
  ORDER BY {URGENCY}, j.id LIMIT 1 FOR UPDATE OF j SKIP LOCKED
), {_DATED}
{_TAKE}
""")


def claim_solo(
    connection: Statements, worker: UUID, claim_id: UUID, names: Sequence[str], wanted: Sequence[str]
) -> list[ClaimedJob]:
    """claim of one job that must run alone; no other claim takes it. wanted: the queues; none: any queue."""
    parameters = {"worker": worker, "claim": claim_id, "names": list(names), "queues": list(wanted)}
    return _claimed(connection.execute(_CLAIM_SOLO, parameters))


_SOLO_WAITING: Final = text(f"""
SELECT count(*) FROM (
  SELECT FROM {SCHEMA}.jobs j LEFT JOIN {SCHEMA}.queues q ON q.name = j.queue
  WHERE j.state = 'queued' AND j.solo AND (CAST(:queues AS text[]) = '{{}}' OR j.queue = ANY(:queues))
    AND {_MAY_START}
    AND j.name IN (SELECT unnest(w.job_names) FROM {SCHEMA}.workers w WHERE w.id = ANY(:workers))
  LIMIT :limit
) AS waiting
""")


def solo_waiting(connection: Statements, workers: Sequence[UUID], wanted: Sequence[str], limit: int) -> int:
    """Return how many jobs `claim_solo` can claim for these workers, up to a limit."""
    parameters = {"workers": list(workers), "queues": list(wanted), "limit": limit}
    return int(connection.execute(_SOLO_WAITING, parameters).scalar_one())


_CLAIMED_BY: Final = text(
    f"SELECT {claimed_columns('false')} FROM {SCHEMA}.jobs j"
    " WHERE j.state = 'running' AND j.worker_id = :worker AND j.claim_id = :claim"
)


def claimed_by(connection: Statements, worker: UUID, claim_id: UUID) -> list[ClaimedJob]:
    """Return the jobs of a claim whose answer was lost."""
    return _claimed(connection.execute(_CLAIMED_BY, {"worker": worker, "claim": claim_id}))


def _claimed(rows: Rows) -> list[ClaimedJob]:
    return [ClaimedJob._make(row) for row in rows.all()]
