"""What `doctor` asks of Postgres: its version, who leads, and jobs that nobody can run."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from callboard.jobs.model.states import PENDING
from callboard.jobs.postgres.locks import LEADER
from callboard.jobs.postgres.sql import SCHEMA, in_states

#: Queued jobs that are looked at; an answer from the most recent of these is as good.
_LOOKED_AT: Final = 100_000

_VERSION: Final = text("SELECT current_setting('server_version_num')::int")


def server_version(connection: Connection) -> int:
    """The server's version as a number: 140011 is 14.11."""
    version: int = connection.execute(_VERSION).scalar_one()
    return version


# A bigint's advisory lock has its upper half in classid, its lower in objid, and objsubid 1.
_LEADER: Final = text("""
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND classid::bigint = :high AND objid::bigint = :low
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
""")


def has_leader(connection: Connection) -> bool:
    """Whether a scheduler leads."""
    parameters = {"high": LEADER >> 32, "low": LEADER & 0xFFFFFFFF}
    return bool(connection.execute(_LEADER, parameters).scalar_one())


_LIVE_WORKERS: Final = text(
    f"SELECT count(*) FROM {SCHEMA}.workers WHERE lease_expires_at > clock_timestamp()"
)


def live_workers(connection: Connection) -> int:
    number: int = connection.execute(_LIVE_WORKERS).scalar_one()
    return number


_UNSERVED: Final = text(f"""
WITH waiting AS (
  SELECT queue, count(*) AS n FROM (SELECT queue FROM {SCHEMA}.jobs WHERE state = 'queued' LIMIT :limit) q GROUP BY queue
)
SELECT w.queue, w.n FROM waiting w JOIN {SCHEMA}.queues q ON q.name = w.queue AND q.paused_at IS NULL
WHERE NOT EXISTS (
  SELECT FROM {SCHEMA}.workers k WHERE k.lease_expires_at > clock_timestamp() AND k.draining_since IS NULL
    AND (k.queues = '{{}}' OR w.queue = ANY(k.queues)))
ORDER BY w.n DESC, w.queue LIMIT 100
""")


def unserved_queues(connection: Connection) -> dict[str, int]:
    """Queues that are not paused and have queued jobs but no live worker, with how many jobs."""
    return {row[0]: row[1] for row in connection.execute(_UNSERVED, {"limit": _LOOKED_AT})}


_UNKNOWN: Final = text(f"""
WITH waiting AS (
  SELECT name, count(*) AS n FROM (SELECT name FROM {SCHEMA}.jobs WHERE state = 'queued' LIMIT :limit) q GROUP BY name
)
SELECT w.name, w.n FROM waiting w
WHERE NOT EXISTS (
  SELECT FROM {SCHEMA}.workers k WHERE k.lease_expires_at > clock_timestamp() AND w.name = ANY(k.job_names))
ORDER BY w.n DESC, w.name LIMIT 100
""")


def unknown_jobs(connection: Connection) -> dict[str, int]:
    """Names of queued jobs that no live worker defines, with how many jobs."""
    return {row[0]: row[1] for row in connection.execute(_UNKNOWN, {"limit": _LOOKED_AT})}


class PutOff(NamedTuple):
    """Jobs of one name that workers put off: how many, and what one of these workers said."""

    name: str
    number: int
    reason: str


_PUT_OFF: Final = text(f"""
WITH waiting AS (
  SELECT name, put_off_reason FROM {SCHEMA}.jobs WHERE put_off > 0 AND {in_states(PENDING)} LIMIT :limit
)
SELECT name, count(*) AS n, coalesce(min(put_off_reason), '') FROM waiting GROUP BY name ORDER BY n DESC, name LIMIT 100
""")


def put_off(connection: Connection) -> list[PutOff]:
    """Names of jobs that were put off by workers that cannot run them, the most frequent first."""
    return [PutOff(*row) for row in connection.execute(_PUT_OFF, {"limit": _LOOKED_AT})]


_PAUSED: Final = text(f"SELECT name FROM {SCHEMA}.queues WHERE paused_at IS NOT NULL ORDER BY name LIMIT 100")


def paused_queues(connection: Connection) -> list[str]:
    return list(connection.execute(_PAUSED).scalars())
