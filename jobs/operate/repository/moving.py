"""The verbs outside an attempt: what the reaper, the feeder, an operator and the pruner do to jobs. One guarded statement each.

With `jobs.py` the only writer of a job's state; the same rules hold.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.model.endings import Cancelled
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import ACTIVE, TERMINAL, JobState
from callboard.jobs.postgres.sql import HINT, SCHEMA, _hints, by_id, in_states

_RELEASE: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND state = 'waiting' ORDER BY id FOR UPDATE
)
UPDATE {SCHEMA}.jobs j SET state = 'queued', run_at = statement_timestamp()
FROM target WHERE {by_id("target.id")} RETURNING {HINT}
""")


def release(connection: Connection, ids: Sequence[UUID]) -> list[Hint]:
    """release: waiting -> queued, when the last parent has finished."""
    return _hints(connection.execute(_RELEASE, {"ids": list(ids)}))


_CANCEL: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT id, state FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND {in_states(ACTIVE)} ORDER BY id FOR UPDATE
)
UPDATE {SCHEMA}.jobs j SET
  state = CASE WHEN t.state = 'running' THEN 'running' ELSE 'cancelled' END,
  finished_at = CASE WHEN t.state = 'running' THEN NULL ELSE clock_timestamp() END,
  cancel_requested_at = coalesce(j.cancel_requested_at, clock_timestamp()), cancel_forced = j.cancel_forced OR :forced
FROM target t WHERE {by_id("t.id")} RETURNING j.id, j.state, j.queue, j.name
""")


def cancel(connection: Connection, ids: Sequence[UUID], *, forced: bool = False) -> list[Cancelled]:
    """cancel: waiting | scheduled | queued | retrying -> cancelled; a running job is asked to stop.

    forced: the child that runs it is killed when the job does not heed that.
    """
    parameters = {"ids": list(ids), "forced": forced}
    return [
        Cancelled(job, JobState(state), queue, name)
        for job, state, queue, name in connection.execute(_CANCEL, parameters)
    ]


_RERUN: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND {in_states(TERMINAL)} ORDER BY id FOR UPDATE
)
UPDATE {SCHEMA}.jobs j SET state = 'queued', epoch = j.epoch + 1, attempt = 0, crash_count = 0,
  run_at = statement_timestamp(), finished_at = NULL, started_at = NULL, expires_at = NULL, cancel_requested_at = NULL,
  result = NULL, progress = NULL, progress_note = NULL, put_off = 0, put_off_reason = NULL,
  cancel_forced = false, suspected = 0, solo = (j.state = 'quarantined')
FROM target WHERE {by_id("target.id")} RETURNING {HINT}
""")


def rerun(connection: Connection, ids: Sequence[UUID]) -> list[Hint]:
    """rerun: any terminal -> queued, with a fresh budget of attempts; its errors are kept, epoch+1.

    What was quarantined runs alone, for the sake of those that would run beside it.
    """
    return _hints(connection.execute(_RERUN, {"ids": list(ids)}))


_DELETE: Final = text(
    f"DELETE FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND {in_states(TERMINAL)} RETURNING id"
)


def delete(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """delete: any terminal -> gone."""
    return [row[0] for row in connection.execute(_DELETE, {"ids": list(ids)})]
