"""SQL for job types and for the queues that they name."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.definitions.stored_types import job_type_of
from callboard.jobs.model.job_type import JobType
from callboard.jobs.model.unreadable import RowProblem
from callboard.jobs.postgres.rows.ledger import LEDGER
from callboard.jobs.postgres.sql import SCHEMA

_CHANGED: Final = (
    "(t.queue, t.schema, t.defaults, t.doc)"
    " IS DISTINCT FROM (excluded.queue, excluded.schema, excluded.defaults, excluded.doc)"
)
_PUBLISH: Final = text(f"""
INSERT INTO {SCHEMA}.job_types AS t (name, queue, schema, defaults, doc)
SELECT i.name, i.queue, i.schema, i.defaults, i.doc
FROM jsonb_to_recordset(CAST(:types AS jsonb))
  AS i(name text, queue text, schema jsonb, defaults jsonb, doc text)
ORDER BY i.name
ON CONFLICT (name) DO UPDATE SET queue = excluded.queue, schema = excluded.schema,
  defaults = excluded.defaults, doc = excluded.doc, seen_at = statement_timestamp(),
  published_at = CASE WHEN {_CHANGED} THEN statement_timestamp() ELSE t.published_at END
WHERE {_CHANGED} OR t.seen_at < statement_timestamp() - interval '1 day'
""")


def publish(connection: Connection, types: Sequence[JobType]) -> None:
    """Insert or update these job types.

    A row that would not change is written once a day, to record that it is in use.
    """
    encoded = [
        {
            "name": kind.name,
            "queue": kind.queue,
            "schema": kind.schema,
            "defaults": {
                "priority": kind.priority,
                "max_attempts": kind.max_attempts,
                "timeout": kind.timeout,
                "hard_timeout": kind.hard_timeout,
                "unique": kind.unique,
                "limit_by": kind.limit_by,
            },
            "doc": kind.doc,
        }
        for kind in types
    ]
    connection.execute(_PUBLISH, {"types": orjson.dumps(encoded).decode()})


_ALL: Final = text(
    f"SELECT name, queue, schema, defaults, doc FROM {SCHEMA}.job_types ORDER BY name LIMIT 10000"
)


def every(connection: Connection) -> list[JobType]:
    """Return the job types, sorted by name; 10,000 at most. Those that cannot be used are left out."""
    found = [job_type_of(*row) for row in connection.execute(_ALL)]
    LEDGER.report([one for one in found if isinstance(one, RowProblem)])
    return [one for one in found if isinstance(one, JobType)]


def problems(connection: Connection) -> list[RowProblem]:
    """Return the problems of job types that are left out."""
    found = [job_type_of(*row) for row in connection.execute(_ALL)]
    return [one for one in found if isinstance(one, RowProblem)]


_DECLARE: Final = text(f"""
INSERT INTO {SCHEMA}.queues (name) SELECT unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING
""")


def declare(connection: Connection, queues: Sequence[str]) -> None:
    """Create the queues of these names that have no row yet."""
    connection.execute(_DECLARE, {"names": sorted(queues)})


_SEE: Final = text(f"""
UPDATE {SCHEMA}.job_types t SET seen_at = statement_timestamp()
WHERE t.seen_at < statement_timestamp() - interval '1 day' AND EXISTS (
  SELECT FROM {SCHEMA}.workers w
  WHERE w.lease_expires_at > statement_timestamp() AND t.name = ANY(w.job_names) OFFSET 0)
""")
_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.job_types WHERE name IN (
  SELECT name FROM {SCHEMA}.job_types WHERE seen_at < statement_timestamp() - CAST(:age AS interval)
  ORDER BY name LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, age: timedelta, limit: int) -> int:
    """Delete job types that no live worker has had for so long; return how many."""
    connection.execute(_SEE)
    return connection.execute(_PRUNE, {"age": age, "limit": limit}).rowcount
