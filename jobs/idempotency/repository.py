"""SQL for the answers to requests with an Idempotency-Key."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.postgres.sql import SCHEMA, columns

#: How long an answer is stored.
KEPT_FOR: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer under a key, and the fingerprint of the request that it answers."""

    fingerprint: str
    answer: dict[str, Any]


_TAKE: Final = text(f"""
INSERT INTO {SCHEMA}.idempotency_keys AS k (owner, key, fingerprint, answer, created_at)
VALUES (:owner, :key, :fingerprint, '{{}}', statement_timestamp())
ON CONFLICT (owner, key) DO UPDATE
SET fingerprint = excluded.fingerprint, answer = '{{}}', created_at = excluded.created_at
WHERE k.created_at <= statement_timestamp() - CAST(:kept_for AS interval)
RETURNING 1
""")
_FIND: Final = text(f"""
SELECT {columns(StoredAnswer)} FROM {SCHEMA}.idempotency_keys WHERE owner = :owner AND key = :key
""")
_STORE: Final = text(f"""
UPDATE {SCHEMA}.idempotency_keys SET answer = CAST(:answer AS jsonb) WHERE owner = :owner AND key = :key
""")


def take(connection: Connection, owner: str, key: str, fingerprint: str) -> StoredAnswer | None:
    """Take a free key for this request and return None, or return the answer that is stored under the key.

    If another transaction has just taken the key, wait for it.
    """
    parameters = {"owner": owner, "key": key, "fingerprint": fingerprint, "kept_for": KEPT_FOR}
    if connection.execute(_TAKE, parameters).one_or_none() is not None:
        return None
    return StoredAnswer(*connection.execute(_FIND, {"owner": owner, "key": key}).one())


def store(connection: Connection, owner: str, key: str, answer: dict[str, Any]) -> None:
    """Store the answer under a key that this transaction has taken."""
    connection.execute(_STORE, {"owner": owner, "key": key, "answer": orjson.dumps(answer).decode()})


_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.idempotency_keys WHERE (owner, key) IN (
  SELECT owner, key FROM {SCHEMA}.idempotency_keys
  WHERE created_at <= statement_timestamp() - CAST(:kept_for AS interval)
  ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, limit: int) -> int:
    """Delete answers that are older than KEPT_FOR, at most `limit`; returns how many."""
    return connection.execute(_PRUNE, {"kept_for": KEPT_FOR, "limit": limit}).rowcount
