"""The rows of workers: take, renew, lock and remove leases."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from callboard.jobs.attempts.worker import Hold, Worker, WorkerCard
from callboard.jobs.postgres.sql import BUSY, SCHEMA, columns

_FORCED: Final = text(f"""
SELECT id FROM {SCHEMA}.jobs WHERE state = 'running' AND worker_id = ANY(:workers) AND cancel_forced
""")


def forced(connection: Connection, workers: Sequence[UUID]) -> set[UUID]:
    """Return the jobs of these workers whose cancel is forced."""
    return set(connection.execute(_FORCED, {"workers": list(workers)}).scalars())


_REGISTER: Final = text(f"""
INSERT INTO {SCHEMA}.workers (
  id, hostname, pid, queues, job_names, job_versions, threads, slots, lease_expires_at)
VALUES (:id, :hostname, :pid, CAST(:queues AS text[]), CAST(:job_names AS text[]),
  CAST(:job_versions AS text[]), :threads, :slots, clock_timestamp() + CAST(:ttl AS interval))
""")


def register(connection: Connection, card: WorkerCard, ttl: timedelta) -> None:
    parameters = {
        "id": card.id, "hostname": card.hostname, "pid": card.pid, "queues": list(card.queues),
        "job_names": list(card.job_names),
        "job_versions": None if card.job_versions is None else list(card.job_versions),
        "threads": card.threads, "slots": card.slots, "ttl": ttl,
    }  # fmt: skip
    connection.execute(_REGISTER, parameters)


# A lease that has expired can be renewed as long as its row exists, for example after an outage. When the
# reaper ends a lease, it deletes the row and gives the jobs to other workers.
_RENEW: Final = text(f"""
UPDATE {SCHEMA}.workers w SET lease_expires_at = clock_timestamp() + CAST(:ttl AS interval),
  begun = coalesce(CAST(new.begun AS uuid[]), w.begun),
  begun_at = CASE WHEN new.begun IS NULL THEN w.begun_at ELSE clock_timestamp() END
FROM unnest(CAST(:ids AS uuid[]), CAST(:begun AS text[])) AS new(id, begun)
WHERE w.id = ANY (ARRAY[new.id]) RETURNING w.id
""")


def renew(
    connection: Connection, ids: Sequence[UUID], ttl: timedelta, begun: Mapping[UUID, Sequence[UUID]]
) -> set[UUID]:
    """Renew these leases; return the workers that still have one. begun: the jobs that run there."""
    arrays = [f"{{{','.join(map(str, begun[worker]))}}}" if worker in begun else None for worker in ids]
    return set(connection.execute(_RENEW, {"ids": list(ids), "begun": arrays, "ttl": ttl}).scalars())


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
# A version counts as live for a minute after its worker: a worker that died may be starting again.
_REMOVE: Final = text(f"""
WITH gone AS (DELETE FROM {SCHEMA}.workers WHERE id = ANY(:ids) RETURNING job_versions, job_names),
ran AS (
  SELECT DISTINCT u.version FROM gone CROSS JOIN LATERAL unnest(
    coalesce(gone.job_versions, ARRAY(SELECT n || '@' FROM unnest(gone.job_names) AS n))) AS u(version)
), seen AS (
  SELECT v.name, v.digest FROM ran JOIN {SCHEMA}.job_versions v ON v.name = split_part(ran.version, '@', 1)
    AND split_part(ran.version, '@', 2) IN (v.digest, CASE WHEN v.module IS NULL THEN '' END)
  ORDER BY v.name, v.digest FOR UPDATE OF v SKIP LOCKED
)
UPDATE {SCHEMA}.job_versions v SET seen_at = clock_timestamp(),
  counts_until = greatest(v.counts_until, clock_timestamp() + interval '1 minute')
FROM seen WHERE (v.name, v.digest) = (seen.name, seen.digest)
""")


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


#: A row may have been changed by hand: a NULL is no queue.
_QUEUES: Final = "ARRAY(SELECT q FROM unnest(w.queues) AS q WHERE q IS NOT NULL)"
_SHOWN: Final = columns(
    Worker,
    "w",
    queues=_QUEUES,
    running="coalesce(b.running, 0)::bigint",
    claimed="coalesce(b.held - b.running, 0)::bigint",
)
_LIST: Final = text(f"""
WITH {BUSY}
SELECT {_SHOWN} FROM {SCHEMA}.workers w LEFT JOIN LATERAL (
  SELECT sum(busy.held) AS held, sum(busy.running) AS running FROM busy WHERE busy.worker_id = w.id
) AS b ON true
ORDER BY w.started_at, w.id LIMIT 1000
""")


def live(connection: Connection) -> list[Worker]:
    """Return up to 1000 workers that have a row, the longest-running first."""
    return [Worker(*row) for row in connection.execute(_LIST)]
