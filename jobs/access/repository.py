"""API keys: digests, roles, revocation."""

from typing import Any, Final

from sqlalchemy import Connection, text

from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.postgres.sql import SCHEMA

_COLUMNS: Final = "id, name, prefix, role, queue, created_at, expires_at, revoked_at"
_CREATE: Final = text(f"""
INSERT INTO {SCHEMA}.api_keys (id, name, prefix, digest, role, queue, expires_at)
VALUES (:id, :name, :prefix, :digest, :role, :queue, clock_timestamp() + CAST(:expires AS interval))
RETURNING {_COLUMNS}
""")


def create(connection: Connection, values: dict[str, Any]) -> ApiKey:
    return ApiKey(*connection.execute(_CREATE, values).one())


_LIST: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.api_keys ORDER BY created_at DESC, id LIMIT 1000")


def every(connection: Connection) -> list[ApiKey]:
    return [ApiKey(*row) for row in connection.execute(_LIST)]


_REVOKE: Final = text(f"""
UPDATE {SCHEMA}.api_keys SET revoked_at = clock_timestamp()
WHERE (name = :key OR prefix = :key OR id::text = :key) AND revoked_at IS NULL RETURNING {_COLUMNS}
""")


def revoke(connection: Connection, key: str) -> ApiKey | None:
    """Revoke by name, prefix or id; None when no key in force is meant."""
    row = connection.execute(_REVOKE, {"key": key}).first()
    return None if row is None else ApiKey(*row)


_IN_FORCE: Final = text(f"""
SELECT {_COLUMNS}, digest FROM {SCHEMA}.api_keys
WHERE prefix = :prefix AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
""")


def in_force(connection: Connection, prefix: str) -> tuple[ApiKey, str] | None:
    """The key of this prefix and its digest, unless it is revoked or expired."""
    row = connection.execute(_IN_FORCE, {"prefix": prefix}).one_or_none()
    return None if row is None else (ApiKey(*row[:8]), row[8])
