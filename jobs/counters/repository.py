"""SQL for named counters that expire. Each function is one statement."""

from typing import Final

from sqlalchemy import Connection, text

from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.sql import SCHEMA

_LIVE: Final = "expires_at > clock_timestamp()"
_UNTIL: Final = "clock_timestamp() + :ttl * interval '1 millisecond'"

_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.counters WHERE key IN (
  SELECT key FROM {SCHEMA}.counters WHERE expires_at <= clock_timestamp()
  ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
""")

_ADD: Final = text(f"""
INSERT INTO {SCHEMA}.counters AS c (key, value, expires_at) VALUES (:key, :value, {_UNTIL})
ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at WHERE NOT c.{_LIVE}
RETURNING value
""")

_CHANGE: Final = text(f"""
INSERT INTO {SCHEMA}.counters AS c (key, value, expires_at)
SELECT :key, CAST(:amount AS bigint), {_UNTIL} WHERE :amount BETWEEN :minimum AND :maximum
  OR EXISTS (SELECT FROM {SCHEMA}.counters o WHERE o.key = :key AND o.{_LIVE})
ON CONFLICT (key) DO UPDATE SET
  value = CASE WHEN c.{_LIVE} THEN c.value ELSE 0 END + :amount, expires_at = EXCLUDED.expires_at
WHERE CASE WHEN c.{_LIVE} THEN c.value ELSE 0 END + :amount BETWEEN :minimum AND :maximum
RETURNING value
""")

_ARRIVE: Final = text(f"""
UPDATE {SCHEMA}.counters SET value = value - 1 WHERE key = :key AND value > 0 AND {_LIVE} RETURNING value
""")

_LOCK: Final = text(f"SELECT pg_advisory_xact_lock(hashtextextended('{SCHEMA}.counters', 0))")
_SUM: Final = text(
    f"SELECT coalesce(sum(value), 0) FROM {SCHEMA}.counters WHERE key = ANY(:keys) AND {_LIVE}"
)
_LOWEST: Final = -(2**62)
_HIGHEST: Final = 2**62


def prune(connection: Connection, limit: int) -> int:
    """Delete at most `limit` counters that have expired; return how many."""
    return connection.execute(_PRUNE, {"limit": limit}).rowcount


def add(connection: Connection, key: str, value: int, ttl: int) -> bool:
    """Create a counter for `ttl` milliseconds; returns False when one exists that has not expired."""
    parameters = {"key": key, "value": value, "ttl": ttl}
    return connection.execute(_ADD, parameters).scalar_one_or_none() is not None


def change(
    connection: Connection,
    key: str,
    amount: int,
    *,
    ttl: int,
    minimum: int = _LOWEST,
    maximum: int = _HIGHEST,
) -> bool:
    """Add `amount` to a counter; a counter that does not exist is 0.

    Returns False, and changes nothing, when the result would be outside `minimum` to `maximum`.
    """
    parameters = {"key": key, "amount": amount, "ttl": ttl, "minimum": minimum, "maximum": maximum}
    return connection.execute(_CHANGE, parameters).scalar_one_or_none() is not None


def arrive(connection: Statements, key: str) -> bool:
    """Count one arrival at a barrier: subtract 1 from its counter; returns True when the result is 0.

    Returns False, and changes nothing, when the barrier does not exist.
    """
    row = connection.execute(_ARRIVE, {"key": key}).first()
    return row is not None and row[0] == 0


def lock_sums(connection: Connection) -> None:
    """Lock all decisions that depend on a sum, until the transaction ends. Other transactions wait here."""
    connection.execute(_LOCK)


def total(connection: Connection, keys: list[str]) -> int:
    """Return the sum of these counters."""
    return int(connection.execute(_SUM, {"keys": keys}).scalar_one())
