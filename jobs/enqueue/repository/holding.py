"""Who has a unique key: the active job that carries it, or the job that took it for a period."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.enqueue.batch import NewJob, Receipt
from callboard.jobs.model.states import ACTIVE, JobState
from callboard.jobs.postgres.sql import SCHEMA, in_states


class Holder(NamedTuple):
    """The job that has a key; `until` when it is held for a period, and by no active job."""

    receipt: Receipt
    until: datetime | None


_HOLDERS: Final = text(f"""
SELECT j.unique_key AS key, j.id, j.name, j.queue, j.state, NULL AS until FROM {SCHEMA}.jobs j
WHERE j.unique_key = ANY(:keys) AND j.unique_key IS NOT NULL AND {in_states(ACTIVE)}
UNION ALL
SELECT h.key, j.id, j.name, j.queue, j.state, h.until FROM {SCHEMA}.unique_holds h JOIN {SCHEMA}.jobs j ON j.id = h.job_id
WHERE h.key = ANY(:keys) AND h.until > statement_timestamp()
""")


def holders(connection: Connection, keys: Sequence[str]) -> dict[str, Holder]:
    """The jobs that have these unique keys, whatever state they are in."""
    found: dict[str, Holder] = {}
    for key, job_id, name, queue, state, until in connection.execute(_HOLDERS, {"keys": list(keys)}):
        if until is None or key not in found:
            found[key] = Holder(Receipt(job_id, name, queue, JobState(state), existed=True), until)
    return found


_HOLD: Final = text(f"""
INSERT INTO {SCHEMA}.unique_holds AS h (key, job_id, until)
SELECT i.key, i.job_id, statement_timestamp() + i.seconds * interval '1 second'
FROM jsonb_to_recordset(CAST(:holds AS jsonb)) AS i(key text, job_id uuid, seconds double precision) ORDER BY i.key
ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, until = excluded.until WHERE h.until <= statement_timestamp()
RETURNING h.job_id
""")


def hold(connection: Connection, jobs: Sequence[NewJob]) -> set[UUID]:
    """Hold the keys of these jobs for their periods. Returns the jobs that got theirs; who comes second waits for the first."""
    holds = [
        {"key": job.unique_key, "job_id": job.id, "seconds": job.unique_for.total_seconds()}
        for job in jobs
        if job.unique_for is not None
    ]
    return {row[0] for row in connection.execute(_HOLD, {"holds": orjson.dumps(holds).decode()})}


_PASS_ON: Final = text(f"""
WITH job AS (
  UPDATE {SCHEMA}.jobs SET unique_key = NULL WHERE id = :id AND unique_key = :key AND state = 'running' RETURNING id
), held AS (
  DELETE FROM {SCHEMA}.unique_holds h USING job WHERE h.key = :key AND h.job_id = job.id RETURNING h.until
)
SELECT (SELECT until FROM held) FROM job
""")


class LetGo(NamedTuple):
    """A key that is free for the rest of the transaction; `until` when it was held."""

    until: datetime | None


def let_go(connection: Connection, key: str, holder: UUID) -> LetGo | None:
    """Take its key from a running job; None when it does not run any more, or somebody was faster."""
    rows = connection.execute(_PASS_ON, {"id": holder, "key": key}).all()
    return LetGo(rows[0][0]) if rows else None


_EXTEND: Final = text(f"""
INSERT INTO {SCHEMA}.unique_holds AS h (key, job_id, until)
SELECT :key, CAST(:job AS uuid), greatest(CAST(:until AS timestamptz), statement_timestamp() + CAST(:span AS interval))
ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, until = greatest(h.until, excluded.until)
""")


def extend(
    connection: Connection, key: str, job: UUID, *, until: datetime | None, span: timedelta | None
) -> None:
    """Hold a key for this job at least until then, and for this span from now on."""
    if until is not None or span:
        connection.execute(_EXTEND, {"key": key, "job": job, "until": until, "span": span})


_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.unique_holds WHERE key IN (
  SELECT key FROM {SCHEMA}.unique_holds WHERE until <= statement_timestamp()
  ORDER BY until LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, limit: int) -> int:
    """Remove holds that are over; returns how many."""
    parameters: dict[str, Any] = {"limit": limit}
    return connection.execute(_PRUNE, parameters).rowcount
