"""Unique keys and their holders: an unfinished job with the key, or the job that holds it for a period."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import text

from callboard.jobs.model.new_job import UniqueClaim
from callboard.jobs.model.receipt import Receipt
from callboard.jobs.model.states import ACTIVE, JobState
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA, in_states


class Holder(NamedTuple):
    """The job that holds a key.

    `until` is set when no unfinished job has the key and it is held for a period.
    """

    receipt: Receipt
    until: datetime | None


_HOLDERS: Final = text(f"""
SELECT j.unique_key AS key, j.id, j.name, j.queue, j.state, NULL AS until FROM {SCHEMA}.jobs j
WHERE j.unique_key = ANY(:keys) AND j.unique_key IS NOT NULL AND {in_states(ACTIVE)}
UNION ALL
SELECT h.key, j.id, j.name, j.queue, j.state, h.until
FROM {SCHEMA}.unique_holds h JOIN {SCHEMA}.jobs j ON j.id = h.job_id
WHERE h.key = ANY(:keys) AND h.until > statement_timestamp()
""")


def holders(statements: Statements, keys: Sequence[str]) -> dict[str, Holder]:
    """Return the jobs that hold these unique keys, in any state."""
    found: dict[str, Holder] = {}
    for key, job_id, name, queue, state, until in statements.execute(_HOLDERS, {"keys": list(keys)}):
        if until is None or key not in found:
            found[key] = Holder(Receipt(job_id, name, queue, JobState(state), existed=True), until)
    return found


_HOLD: Final = text(f"""
INSERT INTO {SCHEMA}.unique_holds AS h (key, job_id, until)
SELECT i.key, i.job_id, statement_timestamp() + i.seconds * interval '1 second'
FROM jsonb_to_recordset(CAST(:holds AS jsonb)) AS i(key text, job_id uuid, seconds double precision)
ORDER BY i.key
ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, until = excluded.until
WHERE h.until <= statement_timestamp()
RETURNING h.job_id
""")


def hold(statements: Statements, claims: Mapping[UUID, UniqueClaim]) -> set[UUID]:
    """Hold keys for their periods; `claims` by job id. Returns the jobs that got their keys.

    If another transaction is taking a key, wait for it.
    """
    holds = [
        {"key": claim.key, "job_id": job_id, "seconds": claim.period.total_seconds()}
        for job_id, claim in claims.items()
        if claim.period is not None
    ]
    return {row[0] for row in statements.execute(_HOLD, {"holds": orjson.dumps(holds).decode()})}


_PASS_ON: Final = text(f"""
WITH job AS (
  UPDATE {SCHEMA}.jobs SET unique_key = NULL
  WHERE id = :id AND unique_key = :key AND state = 'running' RETURNING id
), held AS (
  DELETE FROM {SCHEMA}.unique_holds h USING job WHERE h.key = :key AND h.job_id = job.id RETURNING h.until
)
SELECT (SELECT until FROM held) FROM job
""")


class LetGo(NamedTuple):
    """A key that is free for the rest of the transaction. `until` is set when it was held for a period."""

    until: datetime | None


def let_go(statements: Statements, key: str, holder: UUID) -> LetGo | None:
    """Take the key from a running job; None when it no longer runs or no longer has the key."""
    rows = statements.execute(_PASS_ON, {"id": holder, "key": key}).all()
    return LetGo(rows[0][0]) if rows else None


_EXTEND: Final = text(f"""
INSERT INTO {SCHEMA}.unique_holds AS h (key, job_id, until)
SELECT :key, CAST(:job AS uuid),
  greatest(CAST(:until AS timestamptz), statement_timestamp() + CAST(:span AS interval))
ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, until = greatest(h.until, excluded.until)
""")


def extend(
    statements: Statements, key: str, job: UUID, *, until: datetime | None, span: timedelta | None
) -> None:
    """Hold a key for this job at least until a time, and at least for a span from now."""
    if until is not None or span:
        statements.execute(_EXTEND, {"key": key, "job": job, "until": until, "span": span})


_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.unique_holds WHERE key IN (
  SELECT key FROM {SCHEMA}.unique_holds WHERE until <= statement_timestamp()
  ORDER BY until LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(statements: Statements, limit: int) -> int:
    """Remove the holds whose period is over; return how many."""
    return statements.execute(_PRUNE, {"limit": limit}).rowcount
