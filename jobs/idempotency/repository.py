"""Answers that were given under an Idempotency-Key, kept for those who ask again."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, text

from callboard.jobs.postgres.sql import SCHEMA

#: How long an answer is kept.
KEPT: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Kept:
    """What was asked under a key, and what was answered."""

    fingerprint: str
    answer: dict[str, Any]


_TAKE: Final = text(f"""
INSERT INTO {SCHEMA}.idempotency_keys AS k (owner, key, fingerprint, answer, created_at)
VALUES (:owner, :key, :fingerprint, '{{}}', statement_timestamp())
ON CONFLICT (owner, key) DO UPDATE SET fingerprint = excluded.fingerprint, answer = '{{}}', created_at = excluded.created_at
WHERE k.created_at <= statement_timestamp() - CAST(:kept AS interval)
RETURNING 1
""")
_FIND: Final = text(
    f"SELECT fingerprint, answer FROM {SCHEMA}.idempotency_keys WHERE owner = :owner AND key = :key"
)
_KEEP: Final = text(
    f"UPDATE {SCHEMA}.idempotency_keys SET answer = CAST(:answer AS jsonb) WHERE owner = :owner AND key = :key"
)


def take(connection: Connection, owner: str, key: str, fingerprint: str) -> Kept | None:
    """None when the key is the caller's from now on; else what it was used for. Waits for one that is being answered."""
    parameters = {"owner": owner, "key": key, "fingerprint": fingerprint, "kept": KEPT}
    if connection.execute(_TAKE, parameters).one_or_none() is not None:
        return None
    row = connection.execute(_FIND, {"owner": owner, "key": key}).one()
    return Kept(row[0], row[1])


def keep(connection: Connection, owner: str, key: str, answer: dict[str, Any]) -> None:
    """Keep the answer under a key that was taken in this transaction."""
    connection.execute(_KEEP, {"owner": owner, "key": key, "answer": orjson.dumps(answer).decode()})


_PRUNE: Final = text(f"""
DELETE FROM {SCHEMA}.idempotency_keys WHERE (owner, key) IN (
  SELECT owner, key FROM {SCHEMA}.idempotency_keys WHERE created_at <= statement_timestamp() - CAST(:kept AS interval)
  ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
""")


def prune(connection: Connection, limit: int) -> int:
    """Remove answers that are kept no longer; returns how many."""
    return connection.execute(_PRUNE, {"kept": KEPT, "limit": limit}).rowcount
