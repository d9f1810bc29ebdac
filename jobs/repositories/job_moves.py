"""The verbs outside an attempt: what the reaper, the feeder, an operator and the pruner do to jobs. One guarded statement each.

With `jobs.py` the only writer of a job's state; the same rules hold.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from jobs.models import in_states
from jobs.records import Finished, Hint
from jobs.repositories.job_enqueue import HINT
from jobs.repositories.jobs import moved
from jobs.states import ACTIVE, PENDING, TERMINAL, JobState


def _hints(rows: Iterable[Any]) -> list[Hint]:
    return [Hint(*row) for row in rows]


#: The third crash is the last.
CRASHES_BEFORE_QUARANTINE: Final = 3

_RESCUE: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT j.id, CASE WHEN CAST(:suspects AS uuid[]) IS NULL OR j.id = ANY(CAST(:suspects AS uuid[])) THEN 1 ELSE 0 END AS blame
  FROM callboard.jobs j WHERE j.state = 'running' AND j.worker_id = ANY(:workers) ORDER BY j.id FOR UPDATE OF j
), verdict AS (
  SELECT j.id, t.blame, CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'
    WHEN j.crash_count + t.blame >= :quarantine AND t.blame = 1 THEN 'quarantined' ELSE 'queued' END AS state
  FROM target t JOIN callboard.jobs j ON j.id = t.id
)
UPDATE callboard.jobs j SET state = v.state, crash_count = j.crash_count + v.blame, attempt = j.attempt - 1,
  epoch = j.epoch + 1, finished_at = CASE WHEN v.state = 'queued' THEN NULL ELSE clock_timestamp() END
FROM verdict v WHERE j.id = v.id RETURNING {HINT}, j.state
""")


def rescue(
    connection: Connection, workers: Sequence[UUID], suspects: Sequence[UUID] | None
) -> tuple[list[Finished], list[Hint]]:
    """rescue: running -> queued, or quarantined from the third crash on, or cancelled when that was asked for.

    suspects: the jobs that had started when the worker died; None when nobody knows, and all are.
    A suspect's crash_count goes up; the attempt is given back to all, epoch+1.
    """
    parameters = {
        "workers": list(workers),
        "suspects": None if suspects is None else [str(job) for job in suspects],
        "quarantine": CRASHES_BEFORE_QUARANTINE,
    }
    return moved(connection.execute(_RESCUE, parameters).all())


_STAGE: Final = text(f"""
WITH target AS (
  SELECT id FROM callboard.jobs WHERE state IN ('scheduled', 'retrying') AND run_at <= statement_timestamp()
  ORDER BY run_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE callboard.jobs j SET state = 'queued', epoch = j.epoch + 1 FROM target WHERE j.id = target.id RETURNING {HINT}
""")


def stage(connection: Connection, limit: int) -> list[Hint]:
    """stage: scheduled | retrying -> queued, for what is due, oldest first; epoch+1."""
    return _hints(connection.execute(_STAGE, {"limit": limit}))


_RELEASE: Final = text(f"""
WITH target AS (
  SELECT id FROM callboard.jobs WHERE id = ANY(:ids) AND state = 'waiting' ORDER BY id FOR UPDATE
)
UPDATE callboard.jobs j SET state = 'queued', run_at = statement_timestamp()
FROM target WHERE j.id = target.id RETURNING {HINT}
""")


def release(connection: Connection, ids: Sequence[UUID]) -> list[Hint]:
    """release: waiting -> queued, when the last parent has finished."""
    return _hints(connection.execute(_RELEASE, {"ids": list(ids)}))


_EXPIRE: Final = text(f"""
WITH target AS (
  SELECT id FROM callboard.jobs WHERE expires_at <= statement_timestamp() AND expires_at IS NOT NULL AND {in_states(PENDING)}
  ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE callboard.jobs j SET state = 'cancelled', finished_at = clock_timestamp(), progress_note = 'expired'
FROM target WHERE j.id = target.id RETURNING j.id, j.state
""")


def expire(connection: Connection, limit: int) -> list[Finished]:
    """expire: waiting | scheduled | queued | retrying -> cancelled, past expires_at."""
    return [Finished(row[0], JobState(row[1])) for row in connection.execute(_EXPIRE, {"limit": limit})]


_CANCEL: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT id, state FROM callboard.jobs WHERE id = ANY(:ids) AND {in_states(ACTIVE)} ORDER BY id FOR UPDATE
)
UPDATE callboard.jobs j SET
  state = CASE WHEN t.state = 'running' THEN 'running' ELSE 'cancelled' END,
  finished_at = CASE WHEN t.state = 'running' THEN NULL ELSE clock_timestamp() END,
  cancel_requested_at = coalesce(j.cancel_requested_at, clock_timestamp())
FROM target t WHERE j.id = t.id RETURNING j.id, j.state
""")


def cancel(connection: Connection, ids: Sequence[UUID]) -> list[Finished]:
    """cancel: waiting | scheduled | queued | retrying -> cancelled; a running job is asked to stop."""
    return [Finished(row[0], JobState(row[1])) for row in connection.execute(_CANCEL, {"ids": list(ids)})]


_RERUN: Final = text(f"""
WITH target AS (
  SELECT id FROM callboard.jobs WHERE id = ANY(:ids) AND {in_states(TERMINAL)} ORDER BY id FOR UPDATE
)
UPDATE callboard.jobs j SET state = 'queued', epoch = j.epoch + 1, attempt = 0, crash_count = 0,
  run_at = statement_timestamp(), finished_at = NULL, started_at = NULL, expires_at = NULL, cancel_requested_at = NULL,
  result = NULL, progress = NULL, progress_note = NULL
FROM target WHERE j.id = target.id RETURNING {HINT}
""")


def rerun(connection: Connection, ids: Sequence[UUID]) -> list[Hint]:
    """rerun: any terminal -> queued, with a fresh budget of attempts; its errors are kept, epoch+1."""
    return _hints(connection.execute(_RERUN, {"ids": list(ids)}))


_DELETE: Final = text(
    f"DELETE FROM callboard.jobs WHERE id = ANY(:ids) AND {in_states(TERMINAL)} RETURNING id"
)


def delete(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """delete: any terminal -> gone."""
    return [row[0] for row in connection.execute(_DELETE, {"ids": list(ids)})]


_PRUNE: Final = text(f"""
DELETE FROM callboard.jobs WHERE id IN (
  SELECT id FROM callboard.jobs
  WHERE {in_states(TERMINAL)} AND finished_at < statement_timestamp() - CAST(:age AS interval) AND state = ANY(:states)
  ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, states: Iterable[JobState], age: timedelta, limit: int) -> int:
    """delete: terminal jobs of these states that finished longer than `age` ago; returns how many."""
    parameters = {"states": [str(state) for state in states], "age": age, "limit": limit}
    return connection.execute(_PRUNE, parameters).rowcount
