"""The verbs enqueue and replace: write jobs, and give a job new arguments before it starts.

A queued job of a queue with limits is announced by NOTIFY in the statement that writes it, because only the
feeder may push it to Redis. So a batch that is one statement is one transaction, on any connection.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import TextClause, text

from callboard.jobs.model.basics.ids import text_of
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.new_job import AlikeJobs, NewJob
from callboard.jobs.model.receipt import AlikeRow
from callboard.jobs.model.states import ACTIVE, PENDING, JobState
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.rows.binary_arrays import Texts, Uuids
from callboard.jobs.postgres.sql import NEXT_EPOCH, SCHEMA, in_states

#: The most rows of one INSERT. More jobs take several INSERTs in the same transaction.
ROWS: Final = 2_000


class InsertedRow(NamedTuple):
    """The columns that a statement here returns for each row that it wrote."""

    id: UUID
    epoch: int
    queue: str
    priority: int
    run_at: datetime
    name: str
    state: str
    limited: bool

    @property
    def hint(self) -> Hint:
        return Hint(self.id, self.epoch, self.queue, self.priority, self.run_at, self.limited)


def _returning(row: type[InsertedRow | AlikeRow], queue: str) -> str:
    """Return the columns of a row. queue: the SQL of the job's queue.

    The row of the queue is read once for the statement if it does not depend on the job `j`. A queue without
    a row is new. pg_notify returns void, which is not NULL.
    """
    limited = f"""CASE (SELECT q.limited FROM {SCHEMA}.queues q WHERE q.name = {queue})
  WHEN false THEN false
  WHEN true THEN
    CASE WHEN j.state = 'queued' THEN pg_notify('{SCHEMA}_queued', j.queue) IS NOT NULL ELSE false END
  ELSE {SCHEMA}.add_queue(j.queue) END"""
    return ", ".join(limited if column == "limited" else f"j.{column}" for column in row._fields)


_INPUT: Final = """
WITH input AS MATERIALIZED (
  SELECT i.*, coalesce(i.due, statement_timestamp() + coalesce(i.delay, 0) * interval '1 second') AS run_at
  FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS i(
    id uuid, name text, queue text, args jsonb, kwargs jsonb, priority smallint, max_attempts int,
    due timestamptz, delay double precision, expires_at timestamptz, unique_key text, tags jsonb,
    timeout double precision, door text, source_id text, hard_timeout double precision, options jsonb,
    limit_key text, request_id text)
)"""


def _insert(where: str = "") -> TextClause:
    return text(f"""{_INPUT}
INSERT INTO {SCHEMA}.jobs AS j (
  id, name, queue, state, args, kwargs, priority, max_attempts, run_at, enqueued_at, expires_at, unique_key,
  tags, timeout, source, source_id, hard_timeout, options, limit_key, request_id)
SELECT i.id, i.name, i.queue, CASE WHEN i.run_at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END,
  i.args, i.kwargs, i.priority, i.max_attempts, i.run_at, statement_timestamp(), i.expires_at, i.unique_key,
  ARRAY(SELECT jsonb_array_elements_text(i.tags)), i.timeout * interval '1 second', i.door, i.source_id,
  i.hard_timeout * interval '1 second', i.options, i.limit_key, i.request_id
FROM input i{where}
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND {in_states(ACTIVE)} DO NOTHING
RETURNING {_returning(InsertedRow, "j.queue")}
""")


def _insert_alike(jobs: str) -> TextClause:
    """Return the INSERT of jobs with the same settings. jobs: the SQL of their ids, arguments and sources.

    Values that are the same for all of them are passed once.
    """
    return text(f"""
INSERT INTO {SCHEMA}.jobs AS j (
  id, name, queue, state, args, kwargs, priority, max_attempts, run_at, enqueued_at, expires_at, tags,
  timeout, source, source_id, hard_timeout, options, limit_key, request_id)
SELECT i.id, :name, :queue, CASE WHEN due.at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END,
  CAST(i.args AS jsonb), CAST(i.kwargs AS jsonb), CAST(:priority AS smallint), :max_attempts, due.at,
  statement_timestamp(), CAST(:expires_at AS timestamptz), CAST(:tags AS text[]), CAST(:timeout AS interval),
  :door, i.source_id, CAST(:hard_timeout AS interval), CAST(:options AS jsonb), CAST(:limit_key AS text),
  i.request_id
FROM {jobs}, (SELECT coalesce(CAST(:run_at AS timestamptz),
    statement_timestamp() + CAST(:delay AS double precision) * interval '1 second') AS at) AS due
RETURNING {_returning(AlikeRow, ":queue")}
""")


_INSERT_MANY: Final = _insert_alike("""
  unnest(CAST(:ids AS uuid[]), CAST(:args AS text[]), CAST(:kwargs AS text[]), CAST(:source_ids AS text[]),
    CAST(:request_ids AS text[])) AS i(id, args, kwargs, source_id, request_id)""")
#: A single job needs no arrays, which both sides would make and read.
_INSERT_ONE: Final = _insert_alike("""
  (SELECT CAST(:id AS uuid) AS id, CAST(:args AS text) AS args, CAST(:kwargs AS text) AS kwargs,
    CAST(:source_id AS text) AS source_id, CAST(:request_id AS text) AS request_id) AS i""")


def insert_alike(statements: Statements, jobs: AlikeJobs) -> AlikeRow:
    """enqueue: - -> queued | scheduled, for all of these jobs."""
    settings = jobs.settings
    parameters = settings._asdict()
    parameters["delay"] = _seconds(settings.delay) or 0.0
    parameters["tags"] = list(settings.tags)
    if settings.options is not None:
        parameters["options"] = settings.options.decode()
    if len(jobs.ids) == 1:
        statement = _INSERT_ONE
        parameters["id"] = text_of(jobs.ids[0])
        parameters["args"], parameters["kwargs"] = jobs.args[0].decode(), jobs.kwargs[0].decode()
        parameters["source_id"], parameters["request_id"] = jobs.source_ids[0], jobs.request_ids[0]
    else:
        statement = _INSERT_MANY
        parameters["ids"] = Uuids(jobs.ids)
        parameters["args"], parameters["kwargs"] = Texts(jobs.args), Texts(jobs.kwargs)
        parameters["source_ids"] = _texts(jobs.source_ids)
        parameters["request_ids"] = _texts(jobs.request_ids)
    run_at, limited, state = statements.execute(statement, parameters).first()
    return AlikeRow(run_at, limited, JobState(state))


def _texts(values: Sequence[str | None]) -> Texts:
    """Return an array for `unnest`. All None: an empty one, because `unnest` fills up with NULL."""
    if values.count(None) == len(values):
        return Texts([])
    return Texts([None if one is None else one.encode() for one in values])


_PLAIN: Final = _insert()
#: Only a job with a unique key needs the look-up of keys that are held for a period.
_KEYED: Final = _insert(f"""
WHERE coalesce(
  (SELECT h.until FROM {SCHEMA}.unique_holds h WHERE h.key = i.unique_key) <= statement_timestamp(), true)""")


def insert(statements: Statements, jobs: Sequence[NewJob]) -> list[InsertedRow]:
    """enqueue: - -> queued | scheduled. Returns the rows that were written.

    A job whose unique key is held is missing from the result; `holding.holders` finds the holder.
    """
    statement = _KEYED if any(job.unique is not None for job in jobs) else _PLAIN
    rows = statements.execute(statement, {"jobs": _encoded(jobs)})
    return [InsertedRow._make(row) for row in rows.all()]


_WITHDRAW: Final = text(f"DELETE FROM {SCHEMA}.jobs WHERE id = ANY(:ids)")


def withdraw(statements: Statements, ids: Sequence[UUID]) -> None:
    """Undo an enqueue of this same transaction. No other transaction has seen it."""
    statements.execute(_WITHDRAW, {"ids": list(ids)})


_REPLACE: Final = text(f"""{_INPUT}
UPDATE {SCHEMA}.jobs j SET
  state = CASE WHEN j.state = 'waiting' THEN 'waiting'
    WHEN i.run_at > statement_timestamp() THEN 'scheduled' ELSE 'queued' END,
  epoch = {NEXT_EPOCH}, attempt = 0, args = i.args, kwargs = i.kwargs, priority = i.priority,
  max_attempts = i.max_attempts, run_at = i.run_at, expires_at = i.expires_at,
  tags = ARRAY(SELECT jsonb_array_elements_text(i.tags)), timeout = i.timeout * interval '1 second',
  hard_timeout = i.hard_timeout * interval '1 second', options = i.options, limit_key = i.limit_key,
  started_at = NULL, progress = NULL, progress_note = NULL, put_off = 0, put_off_reason = NULL
FROM input i WHERE j.id = :holder AND {in_states(PENDING)}
RETURNING {_returning(InsertedRow, "j.queue")}
""")


def replace(statements: Statements, holder: UUID, job: NewJob) -> InsertedRow | None:
    """replace: waiting | scheduled | queued | retrying -> queued | scheduled, or waiting as before; epoch+1.

    The job takes all values of the new job except id, name, queue, source and request id. Its attempts start
    again.
    Returns None when the job has started meanwhile.
    """
    row = statements.execute(_REPLACE, {"jobs": _encoded([job]), "holder": holder}).first()
    return None if row is None else InsertedRow._make(row)


def _encoded(jobs: Sequence[NewJob]) -> str:
    return orjson.dumps([_as_json(job) for job in jobs]).decode()


def _as_json(job: NewJob) -> dict[str, Any]:
    settings = job.settings
    return {
        **settings._asdict(),
        "id": job.id,
        "args": orjson.Fragment(job.args),
        "kwargs": orjson.Fragment(job.kwargs),
        "source_id": job.source_id,
        "request_id": job.request_id,
        "unique_key": None if job.unique is None else job.unique.key,
        "due": settings.run_at,
        "run_at": None,
        "delay": _seconds(settings.delay),
        "timeout": _seconds(settings.timeout),
        "hard_timeout": _seconds(settings.hard_timeout),
        "options": None if settings.options is None else orjson.Fragment(settings.options),
    }


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()


_LOCK_TIMEOUT: Final = text("SELECT set_config('lock_timeout', CAST(:milliseconds AS text), true)")


def limit_lock_wait(statements: Statements, longest: timedelta) -> None:
    """In this transaction, wait at most this long for a locked row; then raise Busy."""
    statements.execute(_LOCK_TIMEOUT, {"milliseconds": longest // timedelta(milliseconds=1)})
