"""The verbs for jobs of a dead worker: rescue, and the ends of jobs that caused the kill of the worker."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.attempts.repository.ending import moved
from callboard.jobs.model.endings import TakenBack
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres.sql import HINT, NEXT_EPOCH, SCHEMA, by_id

#: The third crash quarantines a job.
CRASHES_BEFORE_QUARANTINE: Final = 3
#: The description of a death whose reason is not known.
LEASE_RAN_OUT: Final = "the lease of the worker that ran it ran out: its process, or its machine, died"
#: The stored error names of attempts whose process was killed. A live worker uses the same names.
TIMED_OUT: Final = "TimedOut"
CANCELLED: Final = "Cancelled"
#: The stored error name of an attempt that ended with its process.
WORKER_DIED: Final = "WorkerDied"
_LONGEST_BACK_OFF: Final = timedelta(hours=1)

#: An entry of a job's errors, for an attempt whose worker cannot write it.
_ENTRY: Final = f"""jsonb_build_object('attempt', j.attempt,
    'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'class', CAST({{kind}} AS text), 'message', CAST({{message}} AS text), 'traceback', '', 'worker',
    coalesce((SELECT w.hostname || ':' || w.pid FROM {SCHEMA}.workers w WHERE w.id = j.worker_id), ''))"""
_DIED: Final = _ENTRY.format(kind=f"'{WORKER_DIED}'", message=":how")

# Rows are locked in id order. The cast keeps Postgres from reading the whole index of ids for it, as it would
# while its statistics say that the table is empty. Blame: sole (the only job that had started, or the
# only one that was held when it is not known which had started), shared (others had started too), none.
# A lone death proves the suspicions only if the process died by itself, and not with its whole machine.
_RESCUE: Final = text(f"""
WITH held AS MATERIALIZED (
  SELECT j.id, j.worker_id, j.crash_count, j.suspected, j.solo, j.cancel_requested_at
  FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.worker_id = ANY(:workers)
  ORDER BY j.id::text COLLATE "C" FOR UPDATE OF j
), blamed AS (
  SELECT h.*, CASE
    WHEN CAST(:suspects AS uuid[]) IS NULL
      THEN CASE WHEN count(*) OVER (PARTITION BY h.worker_id) = 1 THEN 'sole' ELSE 'shared' END
    WHEN h.id <> ALL(CAST(:suspects AS uuid[])) THEN 'none'
    WHEN cardinality(CAST(:suspects AS uuid[])) = 1 THEN 'sole' ELSE 'shared' END AS blame,
    CASE WHEN CAST(:suspects AS uuid[]) IS NULL THEN 0 ELSE h.suspected END AS proven
  FROM held h
), counted AS (
  SELECT b.id, b.blame, b.cancel_requested_at,
    CASE b.blame WHEN 'sole' THEN least(b.crash_count + 1 + b.proven, 32767) ELSE b.crash_count
      END AS crash_count,
    CASE b.blame WHEN 'sole' THEN b.suspected - b.proven WHEN 'none' THEN b.suspected
      ELSE least(b.suspected + 1, 32767) END AS suspected,
    CASE b.blame WHEN 'none' THEN b.solo WHEN 'sole' THEN true
      ELSE b.solo OR b.suspected > 0 OR b.crash_count > 0 END AS solo
  FROM blamed b
), verdict AS (
  SELECT c.*, CASE WHEN c.cancel_requested_at IS NOT NULL THEN 'cancelled'
    WHEN c.blame = 'sole' AND c.crash_count >= :quarantine THEN 'quarantined' ELSE 'queued' END AS state
  FROM counted c
)
UPDATE {SCHEMA}.jobs j SET state = v.state, crash_count = v.crash_count, suspected = v.suspected,
  solo = v.solo,
  errors = CASE WHEN v.blame = 'sole' THEN j.errors || {_DIED} ELSE j.errors END,
  attempt = greatest(j.attempt - 1, 0),
  epoch = {NEXT_EPOCH}, finished_at = CASE WHEN v.state = 'queued' THEN NULL ELSE clock_timestamp() END
FROM verdict v WHERE {by_id("v.id")}
RETURNING {HINT}, j.state, j.name, v.blame <> 'none' AS blamed, j.crash_count, j.suspected, j.solo,
  j.request_id
""")


def rescue(
    connection: Connection, workers: Sequence[UUID], suspects: Sequence[UUID] | None, how: str = LEASE_RAN_OUT
) -> tuple[list[TakenBack], list[Hint]]:
    """rescue: running -> queued; quarantined from the third crash on; or cancelled if that was requested.

    suspects: the jobs that had started when the worker died; None when they are not known.
    how:      how the worker died. The text goes into the errors of the job that caused it.

    A single suspect is the cause: its crash_count grows by 1, and by the number of earlier crashes of which
    it was a suspect; it runs alone from now on. When the suspects are not known, the crash_count grows by 1
    only: a lease runs out because the supervisor or the machine died too. Of several suspects, each gets a
    suspicion and runs on normally. It runs alone from its second suspicion on, or after a crash of its own,
    which will show the cause. No attempt of these jobs counts; epoch+1. Jobs that run alone have no hints.
    """
    parameters = {
        "workers": list(workers),
        "suspects": None if suspects is None else [str(job) for job in suspects],
        "how": how,
        "quarantine": CRASHES_BEFORE_QUARANTINE,
    }
    rows = connection.execute(_RESCUE, parameters).all()
    _, hints = moved([row for row in rows if not row.solo])
    return [_taken_back(row, blamed=row.blamed) for row in rows], hints


_KILLED: Final = _ENTRY.format(
    kind=f"CASE t.state WHEN 'cancelled' THEN '{CANCELLED}' ELSE '{TIMED_OUT}' END", message="t.message"
)


def _bound(name: str) -> str:
    """Return the SQL of a bound in a job's options, at most 30 days; NULL if it is not a number."""
    number = f"least(CAST(j.options ->> '{name}' AS numeric), 2592000)"
    return f"CASE jsonb_typeof(j.options -> '{name}') WHEN 'number' THEN {number} END"


_OVERRUN: Final = text(f"""
WITH target AS MATERIALIZED (
  SELECT found.* FROM unnest(CAST(:ids AS uuid[]), CAST(:messages AS text[])) AS o(id, message), LATERAL (
    SELECT j.id, o.message, CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'
      WHEN j.attempt >= j.max_attempts THEN 'failed' ELSE 'retrying' END AS state
    FROM {SCHEMA}.jobs j WHERE j.id = o.id AND j.worker_id = :worker
      AND (j.state || '') = 'running' FOR UPDATE OF j
  ) AS found
)
UPDATE {SCHEMA}.jobs j SET state = t.state, suspected = 0, solo = false, epoch = {NEXT_EPOCH},
  errors = j.errors || {_KILLED},
  run_at = CASE WHEN t.state <> 'retrying' THEN j.run_at
    ELSE clock_timestamp() + interval '1 second' * greatest({_bound("min_backoff")},
      least({_bound("max_backoff")},
    random() * least(power(2, least(j.attempt, 30) - 1), :longest))) END,
  finished_at = CASE WHEN t.state <> 'retrying' THEN clock_timestamp() END
FROM target t WHERE {by_id("t.id")}
RETURNING j.id, j.state, j.name, j.queue, j.crash_count, j.suspected, j.solo, j.request_id
""")


def overrun(connection: Connection, worker: UUID, overdue: Sequence[tuple[UUID, str]]) -> list[TakenBack]:
    """retry | fail | stop: running -> retrying, failed or cancelled, for jobs that caused a kill.

    overdue: the jobs that ran beyond their hard deadline, in id order, each with the message of its error.

    The attempt counts; epoch+1. The next attempt follows after an exponential delay with full jitter, within
    the job's bounds. The job's own retry policy is code that is not available here.
    """
    parameters = {
        "worker": worker,
        "ids": [str(job) for job, _ in overdue],
        "messages": [message for _, message in overdue],
        "longest": _LONGEST_BACK_OFF.total_seconds(),
    }
    return [_taken_back(row, blamed=True) for row in connection.execute(_OVERRUN, parameters)]


def _taken_back(row: Any, *, blamed: bool) -> TakenBack:
    return TakenBack(
        row.id, row.name, row.queue, JobState(row.state), blamed, row.crash_count, row.suspected, row.solo,
        row.request_id,
    )  # fmt: skip
