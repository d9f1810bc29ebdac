"""SQL for job types and for the queues that they name."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.definitions.stored_types import job_type_of
from callboard.jobs.model.job_type import JobType, JobVersion, PublishedVersion
from callboard.jobs.model.states import ACTIVE
from callboard.jobs.model.unreadable import RowProblem
from callboard.jobs.postgres.rows.ledger import LEDGER
from callboard.jobs.postgres.sql import SCHEMA, in_states

#: How long a version that was announced counts as live without a worker.
ANNOUNCED: Final = timedelta(days=1)
_GIVEN: Final = """
jsonb_to_recordset(CAST(:types AS jsonb))
  AS i(name text, queue text, schema jsonb, defaults jsonb, doc text, module text)"""
_DIGEST: Final = f"{SCHEMA}.version_digest(i.queue, i.schema, i.defaults)"
_NEWEST: Final = f"""
(SELECT n.digest FROM {SCHEMA}.job_versions n WHERE n.name = {{name}}
  ORDER BY n.published_at DESC, n.seen_at DESC, n.digest LIMIT 1)"""
_COMPARE: Final = text(f"""
SELECT i.name, d.digest, CASE WHEN v.digest IS NULL THEN 'new'
  WHEN v.digest <> {_NEWEST.format(name="i.name")} AND :announced THEN 'newest' ELSE 'unchanged' END
FROM {_GIVEN} CROSS JOIN LATERAL (SELECT {_DIGEST} AS digest) d
LEFT JOIN {SCHEMA}.job_versions v ON (v.name, v.digest) = (i.name, d.digest) ORDER BY i.name
""")
_NAME: Final = text(f"""
INSERT INTO {SCHEMA}.job_types (name, queue, schema, defaults, doc)
SELECT i.name, i.queue, i.schema, i.defaults, i.doc FROM {_GIVEN} ORDER BY i.name
ON CONFLICT (name) DO NOTHING
""")
# Publications of the same names wait here for each other. Later they would lock rows in different orders.
_LOCK: Final = text(f"""
SELECT FROM {SCHEMA}.job_types WHERE name = ANY(:names) ORDER BY name FOR NO KEY UPDATE
""")
_PUBLISH: Final = text(f"""
INSERT INTO {SCHEMA}.job_versions (name, digest, queue, schema, defaults, doc, module)
SELECT i.name, {_DIGEST}, i.queue, i.schema, i.defaults, i.doc, i.module FROM {_GIVEN} ORDER BY i.name
ON CONFLICT (name, digest) DO UPDATE SET queue = excluded.queue, schema = excluded.schema,
  defaults = excluded.defaults, doc = excluded.doc, module = excluded.module, seen_at = clock_timestamp()
""")
_ANNOUNCE: Final = text(f"""
UPDATE {SCHEMA}.job_versions v SET counts_until = clock_timestamp() + CAST(:announced AS interval),
  published_at = CASE WHEN v.digest = {_NEWEST.format(name="v.name")} THEN v.published_at
    ELSE clock_timestamp() END
FROM {_GIVEN} WHERE (v.name, v.digest) = (i.name, {_DIGEST})
""")
_KEEP_NEWEST: Final = text(f"""
UPDATE {SCHEMA}.job_types t SET queue = v.queue, schema = v.schema, defaults = v.defaults, doc = v.doc,
  published_at = v.published_at
FROM {SCHEMA}.job_versions v
WHERE t.name = ANY(:names) AND (v.name, v.digest) = (t.name, {_NEWEST.format(name="t.name")})
  AND (t.queue, t.schema, t.defaults, t.doc) IS DISTINCT FROM (v.queue, v.schema, v.defaults, v.doc)
""")


def publish(connection: Connection, types: Sequence[JobType], *, announced: bool) -> list[PublishedVersion]:
    """Insert the versions that are new, and record that all are in use. Returns one item for each type.

    A new version is the newest of its name. announced: also make the others the newest, and let all count as
    live for a day.
    """
    given = {"types": orjson.dumps([_encoded(kind) for kind in types]).decode()}
    found = connection.execute(_COMPARE, given | {"announced": announced})
    published = [PublishedVersion(*row) for row in found]
    names = {"names": [kind.name for kind in types]}
    connection.execute(_NAME, given)
    connection.execute(_LOCK, names)
    connection.execute(_PUBLISH, given)
    if announced:
        connection.execute(_ANNOUNCE, given | {"announced": ANNOUNCED})
    connection.execute(_KEEP_NEWEST, names)
    return published


def _encoded(kind: JobType) -> dict[str, Any]:
    return {
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
        "module": kind.module,
    }


_COLUMNS: Final = (
    "v.name, v.queue, v.schema, v.defaults, v.doc, v.module,"
    " v.digest, v.published_at, v.seen_at, v.workers, v.is_live, v.is_current"
)
_ALL: Final = text(
    f"SELECT {_COLUMNS} FROM {SCHEMA}.job_version_status v"
    " WHERE (CAST(:name AS text) IS NULL OR v.name = :name) AND (v.is_current OR NOT :current)"
    " ORDER BY v.name, v.published_at DESC, v.seen_at DESC, v.digest LIMIT 20000"
)


def every(connection: Connection, name: str | None = None, *, current: bool = False) -> list[JobVersion]:
    """Return the versions, or those of a name: by name, the newest first; 20,000 at most.

    current: only those that count at doors without the job's code. Those that cannot be used are left out.
    """
    found = [_version_of(*row) for row in connection.execute(_ALL, {"name": name, "current": current})]
    LEDGER.report([one for one in found if isinstance(one, RowProblem)])
    return [one for one in found if isinstance(one, JobVersion)]


def problems(connection: Connection) -> list[RowProblem]:
    """Return the problems of versions that are left out."""
    found = [_version_of(*row) for row in connection.execute(_ALL, {"name": None, "current": False})]
    return [one for one in found if isinstance(one, RowProblem)]


def _version_of(
    name: str, queue: str, schema: Any, defaults: Any, doc: str, module: str | None, *status: Any
) -> JobVersion | RowProblem:
    kind = job_type_of(name, queue, schema, defaults, doc, module)
    return kind if isinstance(kind, RowProblem) else JobVersion(kind, *status)


_DECLARE: Final = text(f"""
INSERT INTO {SCHEMA}.queues (name) SELECT unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING
""")


def declare(connection: Connection, queues: Sequence[str]) -> None:
    """Create the queues of these names that have no row yet."""
    connection.execute(_DECLARE, {"names": sorted(queues)})


_SEE: Final = text(f"""
UPDATE {SCHEMA}.job_versions v SET seen_at = statement_timestamp()
FROM (SELECT s.name, s.digest FROM {SCHEMA}.job_version_status s
  WHERE s.is_live AND s.seen_at < statement_timestamp() - interval '1 day' OFFSET 0) live
WHERE (v.name, v.digest) = (live.name, live.digest)
""")
# The last version of a name stays while jobs wait for it.
_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.job_versions d USING (
  SELECT v.name, v.digest FROM {SCHEMA}.job_versions v
  WHERE v.seen_at < statement_timestamp() - CAST(:age AS interval) AND NOT (
    v.digest = {_NEWEST.format(name="v.name")} AND EXISTS (
      SELECT FROM {SCHEMA}.jobs j WHERE j.name = v.name AND {in_states(ACTIVE)} OFFSET 0))
  ORDER BY v.name LIMIT :limit FOR UPDATE OF v SKIP LOCKED
) old WHERE (d.name, d.digest) = (old.name, old.digest)
""")
_PRUNE_NAMES: Final = text(f"""
DELETE FROM {SCHEMA}.job_types t
WHERE NOT EXISTS (SELECT FROM {SCHEMA}.job_versions v WHERE v.name = t.name)
""")


def prune(connection: Connection, age: timedelta, limit: int) -> int:
    """Delete versions that no live worker has had for so long; return how many."""
    connection.execute(_SEE)
    pruned = connection.execute(_PRUNE, {"age": age, "limit": limit}).rowcount
    if pruned:
        connection.execute(_PRUNE_NAMES)
    return pruned
