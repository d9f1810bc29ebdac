"""Hand on the places of ended jobs: the worker that ended them claims the next jobs of the limited queue.

The transaction that ends k jobs gives their places to at most k next jobs. So the number of jobs that run or
may start does not grow, and nothing needs to be counted. Where a count is needed, the feeder grants: when the
queue has a rate, when keys share the places of the queue, and while more jobs run than its limits allow.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from callboard.jobs.attempts.repository.claiming import GRANTED, LEASE, OLDEST_GRANTS, claimed_columns
from callboard.jobs.attempts.repository.ending import COMPLETE, completing, in_order
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import FED_COLUMNS, FEED_TOKENS, NEXT_EPOCH, SCHEMA, URGENCY, by_id


class HandedOn(NamedTuple):
    """The places of a queue that were handed on."""

    #: How many.
    number: int
    claimed: list[ClaimedJob]
    #: The jobs that were granted and wait for a claim, without those that must run alone.
    waiting: FeedTokens


_NEXT: Final = f"""
SELECT j.id, j.epoch, j.limit_key, j.solo FROM {SCHEMA}.jobs j
WHERE j.state = 'queued' AND j.queue = :queue AND {{of_key}}
  AND NOT EXISTS (SELECT FROM {SCHEMA}.grants g WHERE g.job_id = j.id AND g.epoch = j.epoch OFFSET 0)
ORDER BY {{order}}, j.id LIMIT p.count FOR NO KEY UPDATE OF j SKIP LOCKED"""
#: So many granted jobs of a queue that wait are many. The feeder grants up to twice as many.
_MANY: Final = 500
# A range of one key, in its order: only the index of keys has that order. With `=`, Postgres may walk the
# queue until it meets the key. For the same reason, the search for any key has an order.
_NEXT_OF_KEY: Final = _NEXT.format(
    of_key="j.limit_key >= p.key AND j.limit_key <= p.key AND j.limit_key IS NOT NULL",
    order=f"j.limit_key, {URGENCY}",
)
_NEXT_WITHOUT_KEY: Final = _NEXT.format(of_key="j.limit_key IS NULL", order=URGENCY)
# `next` are the jobs that get the places; a place of a key goes to the same key. The worker claims the jobs
# with the oldest grants, and of `next` only as many as are left: so keys take turns. A job that is claimed
# needs no grant, because no rate counts its start. Grants are inserted in the order of ids, as the feeder
# does: so two inserts cannot wait for each other.
#
# The ends come first: a job that another worker has just claimed may be locked here when its grant is tried,
# and that worker's next end waits for this commit. Nobody waits who holds such a lock.
#
# If the queue and its keys are both limited, a place of a key stays with the key as well, unless all places
# of the queue are taken: then other keys may wait for them. The places of the ended jobs count as taken.
#
# While many granted jobs wait, the places of keys are left to the feeder: if all places stayed with the keys
# that have them, the other keys would never have a turn.
_HAND_ON: Final = f"""
WITH {LEASE}, {{ended}}, q AS MATERIALIZED (
  SELECT q.key_concurrency IS NOT NULL AS by_key FROM {SCHEMA}.queues q, lease
  WHERE q.name = :queue AND q.limited AND q.within_limits AND q.paused_at IS NULL
    AND num_nonnulls(q.rate, q.key_rate) = 0
    AND CASE num_nonnulls(q.concurrency, q.key_concurrency) WHEN 1 THEN true WHEN 2 THEN q.concurrency >
      (SELECT count(*) FROM {SCHEMA}.jobs r WHERE r.state = 'running' AND r.queue = q.name){{and_ended}}
      + (SELECT count(*) FROM {SCHEMA}.grants w WHERE w.queue = q.name AND w.started_at IS NULL) END
), granted AS MATERIALIZED (
  SELECT g.* FROM q, {OLDEST_GRANTS} AS g LIMIT {_MANY}
), place AS MATERIALIZED (
  SELECT ended.key, count(*)::int AS count FROM q, ended
  WHERE q.by_key = (ended.key IS NOT NULL) AND NOT (q.by_key AND (SELECT count(*) FROM granted) = {_MANY})
  GROUP BY 1
), most AS MATERIALIZED (
  SELECT least(count(*), CAST(:most AS bigint)) AS count FROM ended
), keyed AS MATERIALIZED (
  SELECT next.* FROM place p, LATERAL ({_NEXT_OF_KEY}) AS next WHERE p.key IS NOT NULL
), plain AS MATERIALIZED (
  SELECT next.* FROM place p, LATERAL ({_NEXT_WITHOUT_KEY}) AS next
  WHERE p.key IS NULL AND (
    SELECT k.id FROM {SCHEMA}.jobs k
    WHERE k.state = 'queued' AND k.queue = :queue AND k.limit_key IS NOT NULL
    ORDER BY k.limit_key LIMIT 1) IS NULL
), next AS MATERIALIZED (
  SELECT * FROM keyed UNION ALL SELECT * FROM plain
), older AS MATERIALIZED (
  SELECT found.id, found.epoch FROM granted g, LATERAL (
    SELECT j.id, j.epoch FROM {SCHEMA}.jobs j WHERE {GRANTED} FOR UPDATE OF j SKIP LOCKED) AS found
  LIMIT (SELECT count FROM most)
), newer AS MATERIALIZED (
  SELECT id, epoch FROM next WHERE NOT solo
  LIMIT (SELECT count FROM most) - (SELECT count(*) FROM older)
), target AS MATERIALIZED (
  SELECT id FROM older UNION ALL SELECT id FROM newer
), used AS (
  DELETE FROM {SCHEMA}.grants g USING older WHERE g.job_id = older.id AND g.epoch = older.epoch
), kept AS (
  INSERT INTO {SCHEMA}.grants (job_id, epoch, queue, limit_key)
  SELECT n.id, n.epoch, :queue, n.limit_key FROM next n
  WHERE n.id <> ALL (ARRAY(SELECT id FROM newer)) ORDER BY n.id ON CONFLICT DO NOTHING
), claimed AS (
  UPDATE {SCHEMA}.jobs j SET state = 'running', epoch = {NEXT_EPOCH},
    attempt = least(j.attempt, 2147483646) + 1, worker_id = lease.id, claim_id = :claim,
    started_at = clock_timestamp(), progress = NULL, progress_note = NULL
  FROM target, lease WHERE {by_id("target.id")}
  RETURNING {claimed_columns("true")}
), waiting AS (
  SELECT {FEED_TOKENS} FROM next n, LATERAL (
    SELECT {FED_COLUMNS} FROM {SCHEMA}.jobs j WHERE j.id = n.id OFFSET 0) AS j
  WHERE NOT n.solo AND n.id <> ALL (ARRAY(SELECT id FROM newer))
)
SELECT {{done}}, (SELECT count(*) FROM next), waiting.*, claimed.* FROM waiting LEFT JOIN claimed ON true
"""
_AFTER: Final = text(
    _HAND_ON.format(
        done="NULL",
        and_ended=" + (SELECT count(*) FROM ended)",
        ended=f"""ended AS MATERIALIZED (
  SELECT found.key FROM unnest(CAST(:ended AS uuid[])) AS e(id), LATERAL (
    SELECT j.limit_key AS key FROM {SCHEMA}.jobs j WHERE j.id = e.id OFFSET 0) AS found
)""",
    )
)
_TOGETHER: Final = text(
    _HAND_ON.format(
        done="(SELECT array_agg(id) FROM done)",
        # The statement does not see its own ends: the ended jobs are still counted as running.
        and_ended="",
        ended=f"""done AS (
  {COMPLETE}, j.limit_key
), ended AS MATERIALIZED (
  SELECT limit_key AS key FROM done
)""",
    )
)


def hand_on(
    connection: Statements, worker: UUID, claim_id: UUID, queue: str, ended: Sequence[UUID], most: int
) -> HandedOn:
    """claim, and grant, the next jobs of a queue in the places of ended jobs.

    ended: jobs of the queue that this transaction has ended.
    most:  how many jobs this worker may claim. Other places that are handed on become grants.
    """
    parameters = {
        "worker": worker,
        "claim": claim_id,
        "queue": queue,
        "ended": [str(job) for job in ended],
        "most": most,
    }
    return _read(connection.execute(_AFTER, parameters).all())


def complete_and_hand_on(
    connection: Statements, worker: UUID, claim_id: UUID, queue: str, ends: Sequence[Finish], most: int
) -> tuple[list[Finished], HandedOn]:
    """complete these jobs, all of one limited queue, and do what `hand_on` does, in one statement.

    An end that is missing from the result was stale.
    """
    parameters = {
        "worker": worker,
        "claim": claim_id,
        "queue": queue,
        "most": most,
        **completing(in_order(ends)),
    }
    rows = connection.execute(_TOGETHER, parameters).all()
    return [Finished(job, JobState.SUCCEEDED) for job in rows[0][0] or ()], _read(rows)


def _read(rows: Sequence[Any]) -> HandedOn:
    _, number, *waiting = rows[0][:4]
    claimed = [ClaimedJob._make(row[4:]) for row in rows if row[4] is not None]
    return HandedOn(number, claimed, FeedTokens(*waiting))
