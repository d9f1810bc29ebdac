"""The verb enqueue: jobs come to be. One statement for as many as there are."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, text

from jobs.models import in_states
from jobs.records import Hint, NewJob, Receipt
from jobs.states import ACTIVE, JobState

HINT: Final = "j.id, j.epoch, j.queue, j.priority, j.run_at"


_ENQUEUE: Final = text(f"""
WITH input AS MATERIALIZED (
  SELECT i.*, coalesce(i.due, statement_timestamp() + coalesce(i.delay, 0) * interval '1 second') AS run_at
  FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS i(
    id uuid, name text, queue text, args jsonb, kwargs jsonb, priority smallint, max_attempts int,
    due timestamptz, delay double precision, expires_at timestamptz, unique_key text, tags jsonb,
    timeout double precision, source text, source_id text, hard_timeout double precision, options jsonb, limit_key text)
), seen_queue AS (
  INSERT INTO callboard.queues (name)
  SELECT DISTINCT i.queue FROM input i WHERE NOT EXISTS (SELECT FROM callboard.queues q WHERE q.name = i.queue)
  ON CONFLICT DO NOTHING
)
INSERT INTO callboard.jobs AS j (
  id, name, queue, state, args, kwargs, priority, max_attempts, run_at, enqueued_at, expires_at, unique_key, tags,
  timeout, source, source_id, hard_timeout, options, limit_key)
SELECT i.id, i.name, i.queue, CASE WHEN i.run_at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END,
  i.args, i.kwargs, i.priority, i.max_attempts, i.run_at, statement_timestamp(), i.expires_at, i.unique_key,
  ARRAY(SELECT jsonb_array_elements_text(i.tags)), i.timeout * interval '1 second', i.source, i.source_id,
  i.hard_timeout * interval '1 second', i.options, i.limit_key
FROM input i
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND {in_states(ACTIVE)} DO NOTHING
RETURNING {HINT}, j.name, j.state
""")


def enqueue(connection: Connection, jobs: Sequence[NewJob]) -> tuple[list[Receipt], list[Hint]]:
    """enqueue: - -> queued | scheduled. Returns receipts and, for those that are queued, hints.

    A job whose unique_key is taken by an active job is left out of both; `holders` finds who has it.
    """
    rows = connection.execute(
        _ENQUEUE, {"jobs": orjson.dumps([_encoded(job) for job in jobs]).decode()}
    ).all()
    receipts = [Receipt(row.id, row.name, row.queue, JobState(row.state), existed=False) for row in rows]
    return receipts, [Hint(*row[:5]) for row in rows if row.state == JobState.QUEUED]


def _encoded(job: NewJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "queue": job.queue,
        "args": orjson.Fragment(job.args),
        "kwargs": orjson.Fragment(job.kwargs),
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "due": job.run_at,
        "delay": _seconds(job.delay),
        "expires_at": job.expires_at,
        "unique_key": job.unique_key,
        "tags": job.tags,
        "timeout": _seconds(job.timeout),
        "source": job.source.door,
        "source_id": job.source.id,
        "hard_timeout": _seconds(job.hard_timeout),
        "options": None if job.options is None else orjson.Fragment(job.options),
        "limit_key": job.limit_key,
    }


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()


_HOLDERS: Final = text(f"""
SELECT unique_key, id, name, queue, state FROM callboard.jobs
WHERE unique_key = ANY(:keys) AND unique_key IS NOT NULL AND {in_states(ACTIVE)}
""")


def holders(connection: Connection, keys: Sequence[str]) -> dict[str, Receipt]:
    """The active jobs that hold these unique keys."""
    rows = connection.execute(_HOLDERS, {"keys": list(keys)})
    return {row[0]: Receipt(row[1], row[2], row[3], JobState(row[4]), existed=True) for row in rows}
