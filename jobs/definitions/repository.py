"""The catalogue: which jobs the workers know, and what each accepts."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, text

from callboard.jobs.definitions.job_type import JobType, UniqueRule
from callboard.jobs.model.job import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY
from callboard.jobs.postgres.sql import SCHEMA

_PUBLISH: Final = text(f"""
INSERT INTO {SCHEMA}.job_types AS t (name, queue, schema, defaults, doc)
SELECT i.name, i.queue, i.schema, i.defaults, i.doc
FROM jsonb_to_recordset(CAST(:types AS jsonb)) AS i(name text, queue text, schema jsonb, defaults jsonb, doc text)
ORDER BY i.name
ON CONFLICT (name) DO UPDATE SET queue = excluded.queue, schema = excluded.schema, defaults = excluded.defaults,
  doc = excluded.doc, published_at = statement_timestamp()
WHERE (t.queue, t.schema, t.defaults, t.doc) IS DISTINCT FROM (excluded.queue, excluded.schema, excluded.defaults, excluded.doc)
""")


def publish(connection: Connection, types: Sequence[JobType]) -> None:
    """Write these job types; what is already there and the same is left alone."""
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


_COLUMNS: Final = "name, queue, schema, defaults, doc"
_ALL: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.job_types ORDER BY name LIMIT 10000")
_ONE: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.job_types WHERE name = :name")


def every(connection: Connection) -> list[JobType]:
    return [_read(row) for row in connection.execute(_ALL)]


def get(connection: Connection, name: str) -> JobType | None:
    row = connection.execute(_ONE, {"name": name}).one_or_none()
    return None if row is None else _read(row)


def _read(row: Row[Any]) -> JobType:
    """A row as the value it was made from; what an older version did not publish is not there."""
    name, queue, schema, defaults, doc = tuple(row)
    unique = defaults.get("unique")
    return JobType(
        name,
        queue,
        schema,
        defaults.get("priority", DEFAULT_PRIORITY),
        defaults.get("max_attempts", DEFAULT_MAX_ATTEMPTS),
        defaults.get("timeout"),
        doc,
        hard_timeout=defaults.get("hard_timeout"),
        unique=None
        if unique is None
        else UniqueRule(tuple(unique["by"]), unique["period"], unique["on_conflict"]),
        limit_by=tuple(defaults.get("limit_by") or ()),
    )


_DECLARE: Final = text(f"""
INSERT INTO {SCHEMA}.queues (name) SELECT unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING
""")


def declare(connection: Connection, queues: Sequence[str]) -> None:
    connection.execute(_DECLARE, {"names": sorted(queues)})
