"""The reads of `callboard doctor` in Postgres: its version, the leader, and jobs that no worker can run."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from callboard.jobs.model.states import PENDING
from callboard.jobs.postgres.locks import LEADER
from callboard.jobs.postgres.sql import ACCEPTS, LIVE_VERSIONS, SCHEMA, columns, in_states

#: At most this many queued jobs are read. They show the same problems as all of them.
_MAX_READ: Final = 100_000

_VERSION: Final = text("SELECT current_setting('server_version_num')::int")


def server_version(connection: Connection) -> int:
    """Return the server's version as a number: 140011 is 14.11."""
    version: int = connection.execute(_VERSION).scalar_one()
    return version


_READ_ONLY: Final = text("SELECT current_setting('transaction_read_only') = 'on'")


def is_read_only(connection: Connection) -> bool:
    """Return whether the server refuses writes, as a standby does."""
    return bool(connection.execute(_READ_ONLY).scalar_one())


_IDENTITY: Final = text(
    "SELECT extract(epoch FROM pg_postmaster_start_time())::text, oid::text FROM pg_database"
    " WHERE datname = current_database()"
)


def server_identity(connection: Connection) -> tuple[str, str]:
    """Return what no other database has: when its server started, and its number there."""
    started, number = connection.execute(_IDENTITY).one()
    return started, number


# The upper half of an advisory lock's bigint key is in classid, the lower half in objid; objsubid is 1.
_LEADER: Final = text(f"""
SELECT EXISTS (SELECT FROM pg_locks, (SELECT {LEADER} AS key) AS leader
  WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND classid::bigint = (key >> 32) & 4294967295 AND objid::bigint = key & 4294967295
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
""")


def has_leader(connection: Connection) -> bool:
    """Return whether a scheduler leads."""
    return bool(connection.execute(_LEADER).scalar_one())


class TableSize(NamedTuple):
    """The size of a table with its indexes; `rows` is an estimate."""

    name: str
    bytes: int
    rows: int


_SIZES: Final = text(f"""
SELECT c.relname, pg_total_relation_size(c.oid), CAST(greatest(c.reltuples, 0) AS bigint) FROM pg_class c
WHERE c.relkind = 'r'
  AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST('{SCHEMA}.jobs' AS regclass))
ORDER BY 2 DESC LIMIT :limit
""")


def largest_tables(connection: Connection, limit: int) -> list[TableSize]:
    """Return the largest tables of the schema, the largest first."""
    return [TableSize(*row) for row in connection.execute(_SIZES, {"limit": limit})]


_LIVE_WORKERS: Final = text(
    f"SELECT count(*) FROM {SCHEMA}.workers WHERE lease_expires_at > clock_timestamp()"
)


def live_workers(connection: Connection) -> int:
    number: int = connection.execute(_LIVE_WORKERS).scalar_one()
    return number


_UNSERVED: Final = text(f"""
WITH waiting AS (
  SELECT queue, count(*) AS n FROM (SELECT queue FROM {SCHEMA}.jobs WHERE state = 'queued' LIMIT :limit) q
  GROUP BY queue
)
SELECT w.queue, w.n FROM waiting w JOIN {SCHEMA}.queues q ON q.name = w.queue AND q.paused_at IS NULL
WHERE NOT EXISTS (
  SELECT FROM {SCHEMA}.workers k WHERE k.lease_expires_at > clock_timestamp() AND k.draining_since IS NULL
    AND (k.queues = '{{}}' OR w.queue = ANY(k.queues)))
ORDER BY w.n DESC, w.queue LIMIT 100
""")


def unserved_queues(connection: Connection) -> dict[str, int]:
    """Return queues that have queued jobs, are not paused and have no
    live worker, with the number of jobs.
    """
    return {row.queue: row.n for row in connection.execute(_UNSERVED, {"limit": _MAX_READ})}


_UNKNOWN: Final = text(f"""
WITH waiting AS (
  SELECT name, count(*) AS n FROM (SELECT name FROM {SCHEMA}.jobs WHERE state = 'queued' LIMIT :limit) q
  GROUP BY name
)
SELECT w.name, w.n FROM waiting w
WHERE NOT EXISTS (
  SELECT FROM {SCHEMA}.workers k WHERE k.lease_expires_at > clock_timestamp() AND w.name = ANY(k.job_names))
ORDER BY w.n DESC, w.name LIMIT 100
""")


def unknown_jobs(connection: Connection) -> dict[str, int]:
    """Return names of queued jobs that no live worker defines, with the number of jobs."""
    return {row.name: row.n for row in connection.execute(_UNKNOWN, {"limit": _MAX_READ})}


class PutOffCount(NamedTuple):
    """Jobs of one name that workers put off: how many, and one worker's reason."""

    name: str
    number: int
    reason: str


_PUT_OFF: Final = text(f"""
WITH waiting AS (
  SELECT name, put_off_reason FROM {SCHEMA}.jobs WHERE put_off > 0 AND {in_states(PENDING)} LIMIT :limit
)
SELECT {columns(PutOffCount, number="count(*)", reason="coalesce(min(put_off_reason), '')")} FROM waiting
GROUP BY name ORDER BY number DESC, name LIMIT 100
""")


def put_off(connection: Connection) -> list[PutOffCount]:
    """Return the names of jobs that workers put off because they cannot run them, most frequent first."""
    return [PutOffCount(*row) for row in connection.execute(_PUT_OFF, {"limit": _MAX_READ})]


#: The arguments of at most this many jobs that were put off are compared with the live versions.
_MAX_COMPARED: Final = 10_000
_WITHOUT_VERSION: Final = text(f"""
WITH waiting AS MATERIALIZED (
  SELECT name, args, kwargs FROM {SCHEMA}.jobs WHERE put_off > 0 AND {in_states(PENDING)}
    AND jsonb_typeof(args) = 'array' AND jsonb_typeof(kwargs) = 'object' LIMIT :limit
), live AS MATERIALIZED (
  {LIVE_VERSIONS} AND v.workers > 0 AND v.name = ANY(ARRAY(SELECT w.name FROM waiting w))
)
SELECT j.name, count(*) AS n FROM waiting j
WHERE NOT EXISTS (SELECT FROM live v WHERE v.name = j.name AND {ACCEPTS})
GROUP BY j.name ORDER BY n DESC, j.name LIMIT 100
""")


def without_version(connection: Connection) -> dict[str, int]:
    """Return names of jobs that were put off and that no live worker accepts, with the number of jobs."""
    return {row.name: row.n for row in connection.execute(_WITHOUT_VERSION, {"limit": _MAX_COMPARED})}


_SUSPECTS: Final = text(f"""
SELECT name, count(*) AS n FROM (
  SELECT name FROM {SCHEMA}.jobs WHERE state = 'queued' AND solo LIMIT :limit
) AS waiting GROUP BY name ORDER BY n DESC, name LIMIT 100
""")


def suspects(connection: Connection) -> dict[str, int]:
    """Return the names of jobs that wait to run alone, with the number of jobs, most frequent first."""
    return {row.name: row.n for row in connection.execute(_SUSPECTS, {"limit": _MAX_READ})}


_PAUSED: Final = text(f"SELECT name FROM {SCHEMA}.queues WHERE paused_at IS NOT NULL ORDER BY name LIMIT 100")


def paused_queues(connection: Connection) -> list[str]:
    return list(connection.execute(_PAUSED).scalars())


_MAY_IDENTIFY: Final = text("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
_SERVER: Final = text("SELECT system_identifier FROM pg_control_system()")
_INSTALLATION: Final = text(f"""
SELECT d.oid::bigint, c.relnamespace::bigint, d.datname::text FROM pg_database d, pg_class c
WHERE d.datname = current_database() AND c.oid = CAST('{SCHEMA}.jobs' AS regclass)
""")


def installation(connection: Connection) -> str:
    """Return what tells this schema of this database from all others; it ends with the database's name."""
    may_identify = connection.execute(_MAY_IDENTIFY).scalar_one()
    server = connection.execute(_SERVER).scalar_one() if may_identify else 0
    database, schema, name = connection.execute(_INSTALLATION).one()
    return f"{server}:{database}:{schema}:{name}"


_QUEUES: Final = text(f"SELECT name FROM {SCHEMA}.queues ORDER BY name LIMIT :limit")


def queue_names(connection: Connection, limit: int) -> list[str]:
    return list(connection.execute(_QUEUES, {"limit": limit}).scalars())
