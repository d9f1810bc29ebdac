"""The verbs of an attempt: claim, the five ends, hand_back. One guarded statement each.

This file, `job_enqueue.py` and `job_moves.py` are the only writers of a job's state. Every function returns what it changed. A row that is missing from the answer was not in a state the verb
starts from, or its epoch had moved on; the caller decides what that means. Rows are locked in id order.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Connection, Result, Row, text

from jobs.models import URGENCY
from jobs.records import ClaimedJob, Finish, Finished, Hint
from jobs.repositories.job_enqueue import HINT
from jobs.states import JobState, Verb

# Statements that are given ids look each row up by primary key, in a LATERAL that the planner cannot turn round:
# with statistics older than the backlog it would rather walk the whole queue for each batch. For the same reason
# the state is compared as an expression, which no partial index answers to. The ids come sorted.
_IS_QUEUED: Final = "(j.state || '') = 'queued'"
_IS_RUNNING: Final = "(j.state || '') = 'running'"
_CLAIMED: Final = (
    "j.id, j.epoch, j.claim_id, j.name, j.queue, j.priority, j.args, j.kwargs, j.attempt, j.max_attempts, j.timeout,"
    " j.run_at, j.enqueued_at, j.started_at, j.hard_timeout, j.options, j.put_off"
)


def _pairs(tokens: Sequence[tuple[UUID | str, int]]) -> dict[str, str]:
    """Array literals of ids and epochs, in id order; put together here because the driver's way costs more than the rest."""
    ordered = sorted((str(job), int(epoch)) for job, epoch in tokens)
    ids, epochs = ",".join(job for job, _ in ordered), ",".join(str(epoch) for _, epoch in ordered)
    return {"ids": f"{{{ids}}}", "epochs": f"{{{epochs}}}"}


# A claim needs a live lease, and holds it (FOR KEY SHARE) until it commits: a reaper that ends the lease
# (FOR UPDATE) comes either before, and nothing is claimed, or after, and sees every claim.
_LEASE: Final = """lease AS MATERIALIZED (
  SELECT w.id FROM callboard.workers w
  WHERE w.id = :worker AND w.lease_expires_at > clock_timestamp() FOR KEY SHARE
)"""
_TAKE: Final = f"""
UPDATE callboard.jobs j SET state = 'running', attempt = j.attempt + 1, epoch = j.epoch + 1, worker_id = lease.id,
  claim_id = :claim, started_at = clock_timestamp(), progress = NULL, progress_note = NULL
FROM target, lease WHERE j.id = target.id
RETURNING {_CLAIMED}, target.limited
"""
#: What `_TAKE` needs to know of a target.
_TARGET: Final = "j.id, j.epoch, j.queue, j.limit_key, q.limited"
#: A paused queue starts nothing, and a limited one only what has a grant for this very attempt.
_MAY_START: Final = """(q.name IS NULL OR (q.paused_at IS NULL AND (NOT q.limited
  OR EXISTS (SELECT FROM callboard.grants g WHERE g.job_id = j.id AND g.epoch = j.epoch OFFSET 0))))"""
# The start is written down even if the grant was just revoked, since a rate counts it. What the limits counted must not
# come undone: with such a job in it, the claim waits for the disk after all.
_DATED: Final = """dated AS (
  INSERT INTO callboard.grants AS g (job_id, epoch, queue, limit_key, started_at)
  SELECT t.id, t.epoch, t.queue, t.limit_key, clock_timestamp() FROM target t WHERE t.limited
  ON CONFLICT (job_id, epoch) DO UPDATE SET started_at = excluded.started_at
  RETURNING set_config('synchronous_commit', 'on', true)
)"""

_CLAIM: Final = text(f"""
WITH {_LEASE}, target AS MATERIALIZED (
  SELECT found.* FROM unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[])) AS token(id, epoch), LATERAL (
    SELECT {_TARGET} FROM callboard.jobs j LEFT JOIN callboard.queues q ON q.name = j.queue
    WHERE j.id = token.id AND j.epoch = token.epoch AND {_IS_QUEUED} AND NOT j.solo AND {_MAY_START} AND EXISTS (SELECT FROM lease)
    FOR UPDATE OF j SKIP LOCKED
  ) AS found
), {_DATED}
{_TAKE}
""")


def claim(
    connection: Connection, worker: UUID, claim_id: UUID, tokens: Sequence[tuple[UUID | str, int]]
) -> list[ClaimedJob]:
    """claim: queued -> running, for the tokens (id, epoch) that still hold; attempt+1, epoch+1."""
    parameters = {"worker": worker, "claim": claim_id, **_pairs(tokens)}
    return _claimed(connection.execute(_CLAIM, parameters))


_CLAIM_OLDEST: Final = text(f"""
WITH {_LEASE}, q AS MATERIALIZED (
  SELECT name, paused_at, limited FROM callboard.queues WHERE name = :queue
), free AS MATERIALIZED (
  SELECT j.id, j.epoch, j.queue, j.limit_key, false AS limited FROM callboard.jobs j
  WHERE j.state = 'queued' AND j.queue = :queue AND NOT j.solo AND EXISTS (SELECT FROM lease)
    AND NOT EXISTS (SELECT FROM q WHERE q.paused_at IS NOT NULL OR q.limited)
  ORDER BY {URGENCY}, j.id LIMIT :limit FOR UPDATE OF j SKIP LOCKED
), granted AS MATERIALIZED (
  SELECT found.* FROM q, callboard.grants g, LATERAL (
    SELECT {_TARGET} FROM callboard.jobs j
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
    connection: Connection, worker: UUID, claim_id: UUID, queue: str, limit: int
) -> list[ClaimedJob]:
    """claim without tokens, while Redis is away: the most urgent of one queue that nobody else is taking."""
    parameters = {"worker": worker, "claim": claim_id, "queue": queue, "limit": limit}
    return _claimed(connection.execute(_CLAIM_OLDEST, parameters))


_CLAIM_SOLO: Final = text(f"""
WITH {_LEASE}, target AS MATERIALIZED (
  SELECT {_TARGET} FROM callboard.jobs j LEFT JOIN callboard.queues q ON q.name = j.queue
  WHERE j.state = 'queued' AND j.solo AND j.name = ANY(:names) AND (CAST(:queues AS text[]) = '{{}}' OR j.queue = ANY(:queues))
    AND {_MAY_START} AND EXISTS (SELECT FROM lease)
  ORDER BY {URGENCY}, j.id LIMIT 1 FOR UPDATE OF j SKIP LOCKED
), {_DATED}
{_TAKE}
""")


def claim_solo(
    connection: Connection, worker: UUID, claim_id: UUID, names: Sequence[str], wanted: Sequence[str]
) -> list[ClaimedJob]:
    """claim of one job that is to run alone, in a child of its own; no other claim takes it. wanted: queues; none: any."""
    parameters = {"worker": worker, "claim": claim_id, "names": list(names), "queues": list(wanted)}
    return _claimed(connection.execute(_CLAIM_SOLO, parameters))


_SOLO_WAITING: Final = text(f"""
SELECT count(*) FROM (
  SELECT FROM callboard.jobs j LEFT JOIN callboard.queues q ON q.name = j.queue
  WHERE j.state = 'queued' AND j.solo AND (CAST(:queues AS text[]) = '{{}}' OR j.queue = ANY(:queues)) AND {_MAY_START}
    AND j.name IN (SELECT unnest(w.job_names) FROM callboard.workers w WHERE w.id = ANY(:workers))
  LIMIT :limit
) AS waiting
""")


def solo_waiting(connection: Connection, workers: Sequence[UUID], wanted: Sequence[str], limit: int) -> int:
    """How many jobs, up to the limit, `claim_solo` would find that these workers know. wanted: queues; none: any."""
    parameters = {"workers": list(workers), "queues": list(wanted), "limit": limit}
    return int(connection.execute(_SOLO_WAITING, parameters).scalar_one())


_CLAIMED_BY: Final = text(
    f"SELECT {_CLAIMED}, false FROM callboard.jobs j WHERE j.state = 'running' AND j.worker_id = :worker AND j.claim_id = :claim"
)


def claimed_by(connection: Connection, worker: UUID, claim_id: UUID) -> list[ClaimedJob]:
    """What a claim took whose answer was lost on the way."""
    return _claimed(connection.execute(_CLAIMED_BY, {"worker": worker, "claim": claim_id}))


def _claimed(rows: Result[Any]) -> list[ClaimedJob]:
    return [ClaimedJob._make(row) for row in rows.all()]


#: What an attempt's writes must match: the epoch, and the claim that made it. The epoch alone would not do: a crash of
#: Postgres can undo a claim, and the next one then counts to the same.
_FENCES: Final = "unnest(CAST(:ids AS uuid[]), CAST(:epochs AS int[]), CAST(:claims AS uuid[])"
_HELD: Final = f"j.epoch = f.epoch AND j.claim_id = f.claim AND {_IS_RUNNING}"

# The input comes sorted and is the outer side of a nested loop (a connection of ours has no other join), so rows are
# locked in id order here too, and each is looked up once instead of twice. What few ends have lies apart, by id.
_ENDS_CANCELLED: Final = "(f.state IN ('retrying', 'scheduled') AND j.cancel_requested_at IS NOT NULL)"
#: Asked of the state first: no other end pays for it.
_PUTS_OFF: Final = "f.state = 'scheduled' AND f.more -> 'put_off' IS NOT NULL"
_FINISH: Final = text(f"""
UPDATE callboard.jobs j SET state = CASE WHEN {_ENDS_CANCELLED} THEN 'cancelled' ELSE f.state END,
  result = f.more -> 'result',
  errors = CASE WHEN f.more -> 'error' IS NULL THEN j.errors ELSE j.errors || (f.more -> 'error') END,
  attempt = j.attempt - CASE WHEN f.state = 'scheduled' THEN 1 ELSE 0 END,
  put_off = CASE WHEN {_PUTS_OFF} THEN least(j.put_off, 32766) + 1 ELSE 0 END,
  put_off_reason = CASE WHEN {_PUTS_OFF} THEN f.more ->> 'put_off' END,
  suspected = CASE WHEN {_PUTS_OFF} THEN j.suspected ELSE 0 END, solo = {_PUTS_OFF} AND j.solo,
  run_at = CASE WHEN f.more -> 'delay' IS NULL THEN j.run_at
    ELSE clock_timestamp() + CAST(f.more ->> 'delay' AS double precision) * interval '1 second' END,
  finished_at = CASE WHEN {_ENDS_CANCELLED} OR f.state IN ('succeeded', 'failed', 'cancelled') THEN clock_timestamp() END
FROM (
  SELECT t.*, CAST(:more AS jsonb) -> CAST(t.id AS text) AS more
  FROM {_FENCES}, CAST(:states AS text[])) AS t(id, epoch, claim, state)
) f
WHERE j.id = f.id AND {_HELD}
RETURNING j.id, j.state
""")

_FINISH_STATE: Final = {
    Verb.COMPLETE: JobState.SUCCEEDED,
    Verb.RETRY: JobState.RETRYING,
    Verb.SNOOZE: JobState.SCHEDULED,
    Verb.FAIL: JobState.FAILED,
    Verb.STOP: JobState.CANCELLED,
}


def finish(connection: Connection, finishes: Sequence[Finish]) -> list[Finished]:
    """complete | retry | snooze | fail | stop: running -> where the verb leads, fenced by epoch.

    A job that was asked to cancel and would run again ends as cancelled instead. One that has ended kills nobody: it is
    no longer suspected, and need not run alone.
    """
    ends = sorted(finishes, key=_id)
    more = {
        str(end.id): _more(end)
        for end in ends
        if end.result is not None or end.error is not None or end.delay is not None
    }
    states = ",".join([_FINISH_STATE[end.verb] for end in ends])
    parameters = {**_fences(ends), "states": f"{{{states}}}", "more": orjson.dumps(more).decode()}
    return [Finished(row[0], JobState(row[1])) for row in connection.execute(_FINISH, parameters).all()]


def _more(end: Finish) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if end.result is not None:
        more["result"] = orjson.Fragment(end.result)
    if end.error is not None:
        more["error"] = end.error.entry()
    if end.delay is not None:
        more["delay"] = end.delay.total_seconds()
    if end.put_off is not None:
        more["put_off"] = end.put_off
    return more


_ALREADY: Final = text(f"""
SELECT found.id, found.state FROM {_FENCES}) AS f(id, epoch, claim), LATERAL (
  SELECT j.id, j.state FROM callboard.jobs j
  WHERE j.id = f.id AND j.epoch = f.epoch AND j.claim_id = f.claim AND j.state <> 'running' OFFSET 0
) AS found
""")


def already_finished(connection: Connection, finishes: Sequence[Finish]) -> list[Finished]:
    """Those of the finishes that an earlier try wrote, its answer lost: the same claim, no longer running.

    Nobody else can have moved them: every other way out of running adds to the epoch.
    """
    rows = connection.execute(_ALREADY, _fences(sorted(finishes, key=_id)))
    return [Finished(row[0], JobState(row[1])) for row in rows]


_id: Final = attrgetter("id")


def _fences(held: Sequence[Finish | ClaimedJob]) -> dict[str, str]:
    """Array literals of what the writes must match, from what is in id order."""
    ids = ",".join([one.id.hex for one in held])
    epochs = ",".join([str(one.epoch) for one in held])
    claims = ",".join([one.claim_id.hex for one in held])
    return {"ids": f"{{{ids}}}", "epochs": f"{{{epochs}}}", "claims": f"{{{claims}}}"}


_HAND_BACK: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT found.id, found.cancelled FROM {_FENCES}) AS f(id, epoch, claim), LATERAL (
    SELECT j.id, j.cancel_requested_at IS NOT NULL AS cancelled FROM callboard.jobs j
    WHERE j.id = f.id AND {_HELD} FOR UPDATE OF j
  ) AS found
)
UPDATE callboard.jobs j SET state = CASE WHEN t.cancelled THEN 'cancelled' ELSE 'queued' END, attempt = j.attempt - 1,
  epoch = j.epoch + 1, started_at = NULL, finished_at = CASE WHEN t.cancelled THEN clock_timestamp() END
FROM target t WHERE j.id = t.id RETURNING {HINT}, j.state
""")


def hand_back(connection: Connection, held: Sequence[ClaimedJob]) -> tuple[list[Finished], list[Hint]]:
    """hand_back: running -> queued, for what was claimed and not started; cancelled when that was asked for.

    The attempt is given back, epoch+1.
    """
    return moved(connection.execute(_HAND_BACK, _fences(sorted(held, key=_id))).all())


def moved(rows: Sequence[Row[Any]]) -> tuple[list[Finished], list[Hint]]:
    """What became of jobs that were taken back, and hints for those that are queued again."""
    queued = [row for row in rows if row.state == JobState.QUEUED]
    hints = [Hint(row.id, row.epoch, row.queue, row.priority, row.run_at, row.limited) for row in queued]
    return [Finished(row.id, JobState(row.state)) for row in rows], hints
