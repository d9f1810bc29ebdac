"""The rows of workers: take, renew, lock and remove leases."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.attempts.worker import Hold, Worker, WorkerCard
from callboard.jobs.postgres.sql import SCHEMA, columns

_FORCED: Final = text(f"""
SELECT id FROM {SCHEMA}.jobs WHERE state = 'running' AND worker_id = ANY(:workers) AND cancel_forced
""")


def forced(connection: Connection, workers: Sequence[UUID]) -> set[UUID]:
    """Return the jobs of these workers whose cancel is forced."""
    return set(connection.execute(_FORCED, {"workers": list(workers)}).scalars())


_REGISTER: Final = text(f"""
INSERT INTO {SCHEMA}.workers (id, hostname, pid, queues, job_names, threads, slots, lease_expires_at)
VALUES (:id, :hostname, :pid, CAST(:queues AS text[]), CAST(:job_names AS text[]), :threads, :slots,
  clock_timestamp() + CAST(:ttl AS interval))
""")


def register(connection: Connection, card: WorkerCard, ttl: timedelta) -> None:
    parameters = {
        "id": card.id, "hostname": card.hostname, "pid": card.pid, "queues": list(card.queues),
        "job_names": list(card.job_names), "threads": card.threads, "slots": card.slots, "ttl": ttl,
    }  # fmt: skip
    connection.execute(_REGISTER, parameters)


# A lease that has expired can be renewed as long as its row exists, for example after an outage. When the
# reaper ends a lease, it deletes the row and gives the jobs to other workers.
_RENEW: Final = text(f"""
UPDATE {SCHEMA}.workers SET lease_expires_at = clock_timestamp() + CAST(:ttl AS interval)
WHERE id = ANY(:ids) RETURNING id
""")


def renew(connection: Connection, ids: Sequence[UUID], ttl: timedelta) -> set[UUID]:
    """Renew these leases; return the workers that still have one."""
    return set(connection.execute(_RENEW, {"ids": list(ids), "ttl": ttl}).scalars())


_SHORTEN: Final = text(f"""
UPDATE {SCHEMA}.workers SET lease_expires_at = clock_timestamp() + CAST(:ttl AS interval)
WHERE lease_expires_at > clock_timestamp() + CAST(:ttl AS interval)
""")


def shorten(connection: Connection, ttl: timedelta) -> int:
    """End leases that last longer than `ttl` from now after that time; return how many there were."""
    return connection.execute(_SHORTEN, {"ttl": ttl}).rowcount


_DRAIN: Final = text(f"UPDATE {SCHEMA}.workers SET draining_since = clock_timestamp() WHERE id = :id")


def drain(connection: Connection, worker: UUID) -> None:
    connection.execute(_DRAIN, {"id": worker})


_HOLD: Final = text(f"""
UPDATE {SCHEMA}.workers SET holder_job_id = :job_id, hold_kind = :kind,
  held_since = clock_timestamp() - make_interval(secs => :seconds)
WHERE id = :id
""")
_RELEASE: Final = text(f"""
UPDATE {SCHEMA}.workers SET holder_job_id = NULL, hold_kind = NULL, held_since = NULL
WHERE id = :id AND hold_kind IS NOT NULL
""")


def hold(connection: Connection, worker: UUID, found: Hold | None) -> None:
    """Store which job holds the event loop or the interpreter of a worker; None: no job does."""
    if found is None:
        connection.execute(_RELEASE, {"id": worker})
        return
    parameters = {"id": worker, "job_id": found.job_id, "kind": found.kind, "seconds": found.seconds}
    connection.execute(_HOLD, parameters)


_LOCK: Final = text(f"SELECT id FROM {SCHEMA}.workers WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_LOCK_EXPIRED: Final = text(f"""
SELECT id FROM {SCHEMA}.workers WHERE lease_expires_at <= statement_timestamp()
ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
""")
_REMOVE: Final = text(f"DELETE FROM {SCHEMA}.workers WHERE id = ANY(:ids)")


def lock(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Lock these leases. From now on, no claim of these workers commits."""
    return list(connection.execute(_LOCK, {"ids": list(ids)}).scalars())


def lock_expired(connection: Connection) -> list[UUID]:
    """Lock up to 100 leases that have run out; return their workers."""
    return list(connection.execute(_LOCK_EXPIRED).scalars())


def remove(connection: Connection, ids: Sequence[UUID]) -> None:
    connection.execute(_REMOVE, {"ids": list(ids)})


_IDS: Final = text(f"SELECT id FROM {SCHEMA}.workers WHERE lease_expires_at > statement_timestamp()")


def ids(connection: Connection) -> list[UUID]:
    """Return the workers whose lease is live."""
    return list(connection.execute(_IDS).scalars())


_RUNNING: Final = f"(SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.worker_id = w.id)"
#: A row may have been changed by hand: a NULL is no queue.
_QUEUES: Final = "ARRAY(SELECT q FROM unnest(w.queues) AS q WHERE q IS NOT NULL)"
_SHOWN: Final = columns(Worker, "w", running=_RUNNING, queues=_QUEUES)
_LIST: Final = text(f"SELECT {_SHOWN} FROM {SCHEMA}.workers w ORDER BY w.started_at, w.id LIMIT 1000")


def live(connection: Connection) -> list[Worker]:
    """Return up to 1000 workers that have a row, the longest-running first."""
    return [Worker(*row) for row in connection.execute(_LIST)]
