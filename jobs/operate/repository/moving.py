"""The operators' verbs cancel, rerun and delete, and the verb release. Each is one guarded statement."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.model.endings import Cancelled, Finished
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import ACTIVE, TERMINAL, JobState
from callboard.jobs.postgres.sql import HINT, NEXT_EPOCH, SCHEMA, by_id, columns, hints_of, in_states

_RELEASE: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND state = 'waiting' ORDER BY id FOR UPDATE
)
UPDATE {SCHEMA}.jobs j SET run_at = greatest(j.run_at, statement_timestamp()),
  state = CASE WHEN j.run_at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END
FROM target WHERE {by_id("target.id")} RETURNING {HINT}, j.state
""")


class Released(NamedTuple):
    """The jobs that were released, and hints for those that are queued."""

    finished: list[Finished]
    hints: list[Hint]


def release(connection: Connection, ids: Sequence[UUID]) -> Released:
    """release: waiting -> queued, or scheduled when run_at is later; after the last parent has finished."""
    rows = connection.execute(_RELEASE, {"ids": list(ids)}).all()
    queued = [row for row in rows if row.state == JobState.QUEUED]
    hints = [Hint(**{name: getattr(row, name) for name in Hint._fields}) for row in queued]
    return Released([Finished(row.id, JobState(row.state)) for row in rows], hints)


_CANCEL: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT id FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND {in_states(ACTIVE)} ORDER BY id FOR UPDATE
)
UPDATE {SCHEMA}.jobs j SET
  state = CASE WHEN j.state = 'running' THEN 'running' ELSE 'cancelled' END,
  finished_at = CASE WHEN j.state = 'running' THEN NULL ELSE clock_timestamp() END,
  cancel_requested_at = coalesce(j.cancel_requested_at, clock_timestamp()),
  cancel_forced = j.cancel_forced OR :forced
FROM target t WHERE {by_id("t.id")} RETURNING {columns(Cancelled, "j")}
""")


def cancel(connection: Connection, ids: Sequence[UUID], *, forced: bool = False) -> list[Cancelled]:
    """cancel: waiting | scheduled | queued | retrying -> cancelled; a running job gets a request to stop.

    forced: the worker child is killed when the running job does not stop.
    """
    parameters = {"ids": list(ids), "forced": forced}
    rows = connection.execute(_CANCEL, parameters)
    return [Cancelled(row.id, JobState(row.state), row.queue, row.name) for row in rows]


_RERUN: Final = text(f"""
WITH target AS (
  SELECT id FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND {in_states(TERMINAL)} ORDER BY id FOR UPDATE
)
UPDATE {SCHEMA}.jobs j SET state = 'queued', epoch = {NEXT_EPOCH}, attempt = 0, crash_count = 0,
  run_at = statement_timestamp(), finished_at = NULL, started_at = NULL, expires_at = NULL,
  cancel_requested_at = NULL,
  result = NULL, progress = NULL, progress_note = NULL, put_off = 0, put_off_reason = NULL,
  cancel_forced = false, suspected = 0, solo = (j.state = 'quarantined')
FROM target WHERE {by_id("target.id")} RETURNING {HINT}
""")


def rerun(connection: Connection, ids: Sequence[UUID]) -> list[Hint]:
    """rerun: any terminal -> queued, with all its attempts again; the errors are kept; epoch+1.

    A job that was quarantined runs alone, so that it cannot harm others.
    """
    return hints_of(connection.execute(_RERUN, {"ids": list(ids)}))


_DELETE: Final = text(
    f"DELETE FROM {SCHEMA}.jobs WHERE id = ANY(:ids) AND {in_states(TERMINAL)} RETURNING id"
)


def delete(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """delete: any terminal -> gone; return the ids."""
    return [row[0] for row in connection.execute(_DELETE, {"ids": list(ids)})]
