"""Reads of jobs: one, many, pages, what is queued, how much there is."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.attempts.worker import Worker, WorkerCard
from callboard.jobs.postgres.sql import SCHEMA

_FORCED: Final = text(f"""
SELECT id FROM {SCHEMA}.jobs WHERE state = 'running' AND worker_id = ANY(:workers) AND cancel_forced
""")


def forced(connection: Connection, workers: Sequence[UUID]) -> set[UUID]:
    """The jobs these workers run whose cancellation is forced."""
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


# A lease that has run out and still stands has not been judged: it may be renewed, as after an outage of the database.
# Once it is judged, its row is gone, and its jobs are somebody else's.
_RENEW: Final = text(f"""
UPDATE {SCHEMA}.workers SET lease_expires_at = clock_timestamp() + CAST(:ttl AS interval)
WHERE id = ANY(:ids) RETURNING id
""")


def renew(connection: Connection, ids: Sequence[UUID], ttl: timedelta) -> set[UUID]:
    """Lengthen these leases; those missing from the answer are lost."""
    return set(connection.execute(_RENEW, {"ids": list(ids), "ttl": ttl}).scalars())


_DRAIN: Final = text(f"UPDATE {SCHEMA}.workers SET draining_since = clock_timestamp() WHERE id = :id")


def drain(connection: Connection, worker: UUID) -> None:
    connection.execute(_DRAIN, {"id": worker})


_LOCK: Final = text(f"SELECT id FROM {SCHEMA}.workers WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_LOCK_EXPIRED: Final = text(f"""
SELECT id FROM {SCHEMA}.workers WHERE lease_expires_at <= statement_timestamp() ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
""")
_REMOVE: Final = text(f"DELETE FROM {SCHEMA}.workers WHERE id = ANY(:ids)")


def lock(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Hold these leases still: no claim under them commits from here on."""
    return list(connection.execute(_LOCK, {"ids": list(ids)}).scalars())


def lock_expired(connection: Connection) -> list[UUID]:
    """Hold still the leases that have run out."""
    return list(connection.execute(_LOCK_EXPIRED).scalars())


def remove(connection: Connection, ids: Sequence[UUID]) -> None:
    connection.execute(_REMOVE, {"ids": list(ids)})


_IDS: Final = text(f"SELECT id FROM {SCHEMA}.workers WHERE lease_expires_at > statement_timestamp()")


def ids(connection: Connection) -> list[UUID]:
    """The workers whose lease is live."""
    return list(connection.execute(_IDS).scalars())


_LIST: Final = text(f"""
SELECT w.id, w.hostname, w.pid, w.queues, w.threads, w.slots, w.started_at, w.lease_expires_at, w.draining_since,
  (SELECT count(*) FROM {SCHEMA}.jobs j WHERE j.state = 'running' AND j.worker_id = w.id)
FROM {SCHEMA}.workers w ORDER BY w.started_at, w.id LIMIT 1000
""")


def live(connection: Connection) -> list[Worker]:
    return [Worker(*row) for row in connection.execute(_LIST)]
