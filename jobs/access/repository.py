"""SQL for API keys."""

from typing import Any, Final

from sqlalchemy import Connection, text

from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.access.tokens import NO_DIGEST
from callboard.jobs.model.unreadable import RowProblem, unreadable_values
from callboard.jobs.postgres.sql import SCHEMA, columns

_TABLE: Final = "api_keys"
_COLUMNS: Final = columns(ApiKey)
_CREATE: Final = text(f"""
INSERT INTO {SCHEMA}.api_keys (id, name, prefix, digest, role, queue, job, expires_at)
VALUES (:id, :name, :prefix, :digest, :role, :queue, :job, clock_timestamp() + CAST(:expires AS interval))
RETURNING {_COLUMNS}
""")


def create(connection: Connection, values: dict[str, Any]) -> ApiKey:
    """Insert a key. `values` are by column; `expires` is a timedelta from now, or None.

    Raises Duplicate when a key that is not revoked has the same name.
    """
    return ApiKey(*connection.execute(_CREATE, values).one())


_LIST: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.api_keys ORDER BY created_at DESC, id LIMIT 1000")


def every(connection: Connection) -> list[ApiKey]:
    """Return the keys, newest first; 1,000 at most."""
    return [ApiKey(*row) for row in connection.execute(_LIST)]


_BROKEN: Final = text(f"""
SELECT name, CASE WHEN digest !~ '^[0-9a-f]{{64}}$' THEN 'digest' ELSE 'prefix' END
FROM {SCHEMA}.api_keys
WHERE revoked_at IS NULL AND (digest !~ '^[0-9a-f]{{64}}$' OR prefix !~ '^cb_[a-z0-9]{{12}}$') LIMIT 100
""")


def problems(connection: Connection) -> list[RowProblem]:
    """Return the problems of keys that were changed by hand. A key with a broken digest lets nobody in."""
    keys = every(connection)
    found = [RowProblem(_TABLE, key.name, *each) for key in keys for each in unreadable_values(key).items()]
    broken = connection.execute(_BROKEN)
    return found + [RowProblem(_TABLE, name, column, "no key has such a text") for name, column in broken]


_REVOKE: Final = text(f"""
UPDATE {SCHEMA}.api_keys SET revoked_at = clock_timestamp()
WHERE (name = :key OR prefix = :key OR id::text = :key) AND revoked_at IS NULL RETURNING {_COLUMNS}
""")


def revoke(connection: Connection, key: str) -> ApiKey | None:
    """Revoke the key with this name, prefix or id; returns None when there is none that is not revoked."""
    row = connection.execute(_REVOKE, {"key": key}).first()
    return None if row is None else ApiKey(*row)


_IN_FORCE: Final = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
_DIGEST: Final = text(f"""
SELECT coalesce((SELECT digest FROM {SCHEMA}.api_keys WHERE prefix = :prefix AND {_IN_FORCE}), :none)
""")


def digest(connection: Connection, prefix: str) -> str:
    """Return the digest of the key with this prefix; NO_DIGEST when it is unknown, revoked or expired.

    The result is one row of one text in both cases.
    """
    found: str = connection.execute(_DIGEST, {"prefix": prefix, "none": NO_DIGEST}).scalar_one()
    return found


_VALID: Final = text(f"SELECT {_COLUMNS} FROM {SCHEMA}.api_keys WHERE prefix = :prefix AND {_IN_FORCE}")


def find_valid(connection: Connection, prefix: str) -> ApiKey | None:
    """Return the key with this prefix; None when it is unknown, revoked or expired."""
    row = connection.execute(_VALID, {"prefix": prefix}).one_or_none()
    return None if row is None else ApiKey(*row)
