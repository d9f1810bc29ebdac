"""Read, lock and set the limits of queues."""

from typing import Any, Final

from sqlalchemy import Connection, Row, text

from callboard.jobs.model.queue_limits import Limits, Rate
from callboard.jobs.postgres.sql import SCHEMA

LIMITS: Final = "q.concurrency, q.rate, q.rate_period, q.key_concurrency, q.key_rate, q.key_rate_period"


def limits_of(row: Row[Any]) -> Limits:
    """Return the limits in the columns of LIMITS."""
    return Limits(
        row.concurrency,
        None if row.rate is None else Rate(row.rate, row.rate_period),
        row.key_concurrency,
        None if row.key_rate is None else Rate(row.key_rate, row.key_rate_period),
    )


_LOCK: Final = text(f"""
SELECT {LIMITS}, q.xmin::text AS version FROM {SCHEMA}.queues q
WHERE q.name = :queue AND q.limited AND q.paused_at IS NULL FOR NO KEY UPDATE
""")


def lock(connection: Connection, queue: str) -> tuple[Limits, str] | None:
    """Lock a queue; return its limits and their version.

    None: the queue is not limited, paused or unknown.
    """
    row = connection.execute(_LOCK, {"queue": queue}).one_or_none()
    return None if row is None else (limits_of(row), str(row.version))


_SET: Final = text(f"""
UPDATE {SCHEMA}.queues SET concurrency = :concurrency, rate = :rate, rate_period = :rate_period,
  key_concurrency = :key_concurrency, key_rate = :key_rate, key_rate_period = :key_rate_period
WHERE name = :queue
""")
_LOCK_ANY: Final = text(f"SELECT {LIMITS} FROM {SCHEMA}.queues q WHERE q.name = :queue FOR NO KEY UPDATE")
_REVOKE: Final = text(f"DELETE FROM {SCHEMA}.grants WHERE queue = :queue AND started_at IS NULL")
_FORGET: Final = text(f"DELETE FROM {SCHEMA}.grants WHERE queue = :queue")


def now(connection: Connection, queue: str) -> Limits:
    """Lock an existing queue; return its limits."""
    return limits_of(connection.execute(_LOCK_ANY, {"queue": queue}).one())


def change(connection: Connection, queue: str, limits: Limits) -> None:
    """Set the limits. Unused grants of the old limits are revoked; the feeder makes new grants."""
    parameters = {
        "queue": queue,
        "concurrency": limits.concurrency,
        "rate": limits.rate and limits.rate.amount,
        "rate_period": limits.rate and limits.rate.period,
        "key_concurrency": limits.key_concurrency,
        "key_rate": limits.key_rate and limits.key_rate.amount,
        "key_rate_period": limits.key_rate and limits.key_rate.period,
    }
    connection.execute(_SET, parameters)
    connection.execute(_REVOKE if limits.any else _FORGET, {"queue": queue})
