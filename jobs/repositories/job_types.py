"""The catalogue: which jobs the workers know, and what each accepts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job. `schema`: JSON Schema of its arguments; `timeout` in seconds."""

    name: str
    queue: str
    schema: dict[str, Any]
    priority: int
    max_attempts: int
    timeout: float | None
    doc: str


_PUBLISH: Final = text("""
INSERT INTO callboard.job_types AS t (name, queue, schema, defaults, doc)
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
            },
            "doc": kind.doc,
        }
        for kind in types
    ]
    connection.execute(_PUBLISH, {"types": orjson.dumps(encoded).decode()})


_COLUMNS: Final = "name, queue, schema, (defaults->>'priority')::int, (defaults->>'max_attempts')::int, (defaults->>'timeout')::float, doc"
_ALL: Final = text(f"SELECT {_COLUMNS} FROM callboard.job_types ORDER BY name LIMIT 10000")
_ONE: Final = text(f"SELECT {_COLUMNS} FROM callboard.job_types WHERE name = :name")


def every(connection: Connection) -> list[JobType]:
    return [JobType(*row) for row in connection.execute(_ALL)]


def get(connection: Connection, name: str) -> JobType | None:
    row = connection.execute(_ONE, {"name": name}).one_or_none()
    return None if row is None else JobType(*row)
