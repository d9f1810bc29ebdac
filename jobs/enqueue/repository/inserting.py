"""The verbs enqueue and replace: jobs come to be, and get new arguments before they begin."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID

import orjson
from sqlalchemy import Connection, TextClause, text

from callboard.jobs.enqueue.batch import Alike, NewJob, Receipt, Written
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.states import ACTIVE, PENDING, JobState
from callboard.jobs.postgres.arrays import Texts, Uuids
from callboard.jobs.postgres.sql import HINT, SCHEMA, in_states
from callboard.jobs.postgres.statements import AnyConnection

_INPUT: Final = """
WITH input AS MATERIALIZED (
  SELECT i.*, coalesce(i.due, statement_timestamp() + coalesce(i.delay, 0) * interval '1 second') AS run_at
  FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS i(
    id uuid, name text, queue text, args jsonb, kwargs jsonb, priority smallint, max_attempts int,
    due timestamptz, delay double precision, expires_at timestamptz, unique_key text, tags jsonb,
    timeout double precision, source text, source_id text, hard_timeout double precision, options jsonb, limit_key text)
)"""


def _enqueue(where: str = "") -> TextClause:
    return text(f"""{_INPUT}, seen_queue AS (
  INSERT INTO {SCHEMA}.queues (name)
  SELECT DISTINCT i.queue FROM input i WHERE NOT EXISTS (SELECT FROM {SCHEMA}.queues q WHERE q.name = i.queue)
  ON CONFLICT DO NOTHING
)
INSERT INTO {SCHEMA}.jobs AS j (
  id, name, queue, state, args, kwargs, priority, max_attempts, run_at, enqueued_at, expires_at, unique_key, tags,
  timeout, source, source_id, hard_timeout, options, limit_key)
SELECT i.id, i.name, i.queue, CASE WHEN i.run_at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END,
  i.args, i.kwargs, i.priority, i.max_attempts, i.run_at, statement_timestamp(), i.expires_at, i.unique_key,
  ARRAY(SELECT jsonb_array_elements_text(i.tags)), i.timeout * interval '1 second', i.source, i.source_id,
  i.hard_timeout * interval '1 second', i.options, i.limit_key
FROM input i{where}
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND {in_states(ACTIVE)} DO NOTHING
RETURNING {HINT}, j.name, j.state
""")


# Jobs that differ in their arguments, and in what brought them about, alone: what is the same for all is said once, and no key can be held.
_ALIKE: Final = text(f"""
WITH seen_queue AS (
  INSERT INTO {SCHEMA}.queues (name)
  SELECT :queue WHERE NOT EXISTS (SELECT FROM {SCHEMA}.queues q WHERE q.name = :queue) ON CONFLICT DO NOTHING
)
INSERT INTO {SCHEMA}.jobs AS j (
  id, name, queue, state, args, kwargs, priority, max_attempts, run_at, enqueued_at, expires_at, tags, timeout, source,
  source_id, hard_timeout, options, limit_key)
SELECT i.id, :name, :queue, CASE WHEN due.at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END,
  CAST(i.args AS jsonb), CAST(i.kwargs AS jsonb), CAST(:priority AS smallint), :max_attempts, due.at, statement_timestamp(),
  CAST(:expires_at AS timestamptz), CAST(:tags AS text[]), CAST(:timeout AS interval), :source, i.source_id,
  CAST(:hard_timeout AS interval), CAST(:options AS jsonb), CAST(:limit_key AS text)
FROM unnest(CAST(:ids AS uuid[]), CAST(:args AS text[]), CAST(:kwargs AS text[]), CAST(:source_ids AS text[]))
    AS i(id, args, kwargs, source_id),
  (SELECT coalesce(CAST(:due AS timestamptz),
    statement_timestamp() + CAST(:delay AS double precision) * interval '1 second') AS at) AS due
RETURNING {HINT}, j.state
""")


def enqueue_alike(connection: AnyConnection, jobs: Alike) -> Written:
    """enqueue: - -> queued | scheduled; all of them."""
    first = jobs.like
    parameters = {
        "ids": Uuids(jobs.ids),
        "args": Texts(jobs.args),
        "kwargs": Texts(jobs.kwargs),
        "name": first.name,
        "queue": first.queue,
        "priority": first.priority,
        "max_attempts": first.max_attempts,
        "due": first.run_at,
        "delay": _seconds(first.delay) or 0.0,
        "expires_at": first.expires_at,
        "tags": list(first.tags),
        "timeout": first.timeout,
        "source": first.source.door,
        "source_ids": Texts([_utf8(one) for one in jobs.source_ids]),
        "hard_timeout": first.hard_timeout,
        "options": None if first.options is None else first.options.decode(),
        "limit_key": first.limit_key,
    }
    row = cast("Any", connection.execute(_ALIKE, parameters).first())
    return Written(row[4], row[5], JobState(row[6]))


def _utf8(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


_PLAIN: Final = _enqueue()
#: Jobs with a unique_key also heed those that are held for a period; the others need not pay for the look.
_KEYED: Final = _enqueue(f"""
WHERE coalesce((SELECT h.until FROM {SCHEMA}.unique_holds h WHERE h.key = i.unique_key) <= statement_timestamp(), true)""")


def enqueue(connection: Connection, jobs: Sequence[NewJob]) -> tuple[list[Receipt], list[Hint]]:
    """enqueue: - -> queued | scheduled. Returns receipts and, for those that are queued, hints.

    A job whose unique_key is held is left out of both; `unique_holds.holders` finds who has it.
    """
    statement = _KEYED if any(job.unique_key is not None for job in jobs) else _PLAIN
    rows = connection.execute(statement, {"jobs": _written(jobs)}).all()
    receipts = [Receipt(row.id, row.name, row.queue, JobState(row.state), existed=False) for row in rows]
    return receipts, [Hint(*row[:6]) for row in rows if row.state == JobState.QUEUED]


_WITHDRAW: Final = text(f"DELETE FROM {SCHEMA}.jobs WHERE id = ANY(:ids)")


def withdraw(connection: Connection, ids: Sequence[UUID]) -> None:
    """Undo an enqueue of this very transaction, of which nobody has heard yet."""
    connection.execute(_WITHDRAW, {"ids": list(ids)})


_REPLACE: Final = text(f"""{_INPUT}
UPDATE {SCHEMA}.jobs j SET
  state = CASE WHEN j.state = 'waiting' THEN 'waiting' WHEN i.run_at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END,
  epoch = j.epoch + 1, attempt = 0, args = i.args, kwargs = i.kwargs, priority = i.priority, max_attempts = i.max_attempts,
  run_at = i.run_at, expires_at = i.expires_at, tags = ARRAY(SELECT jsonb_array_elements_text(i.tags)),
  timeout = i.timeout * interval '1 second', hard_timeout = i.hard_timeout * interval '1 second', options = i.options,
  limit_key = i.limit_key, started_at = NULL, progress = NULL, progress_note = NULL, put_off = 0, put_off_reason = NULL
FROM input i WHERE j.id = :holder AND {in_states(PENDING)}
RETURNING {HINT}, j.name, j.state
""")


def replace(connection: Connection, holder: UUID, job: NewJob) -> tuple[Receipt, list[Hint]] | None:
    """replace: waiting | scheduled | queued | retrying -> queued | scheduled, or waiting as before; epoch+1.

    The job gets everything that the enqueue says but its id, name, queue and source, and a fresh budget of attempts.
    Returns None when it has begun meanwhile.
    """
    rows = connection.execute(_REPLACE, {"jobs": _written([job]), "holder": holder}).all()
    if not rows:
        return None
    row = rows[0]
    receipt = Receipt(row.id, row.name, row.queue, JobState(row.state), existed=True, replaced=True)
    return receipt, [Hint(*row[:6])] if row.state == JobState.QUEUED else []


def _written(jobs: Sequence[NewJob]) -> str:
    return orjson.dumps([_encoded(job) for job in jobs]).decode()


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


_PATIENCE: Final = text("SELECT set_config('lock_timeout', CAST(:milliseconds AS text), true)")


def be_patient(connection: Connection, patience: timedelta) -> None:
    """In this transaction, wait so long at most for somebody else's open one; Busy says that it was not enough."""
    connection.execute(_PATIENCE, {"milliseconds": patience // timedelta(milliseconds=1)})
