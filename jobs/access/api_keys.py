"""API keys: create, list, revoke and check them. A key has one of three roles."""

from datetime import timedelta
from enum import IntEnum
from threading import Lock
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from callboard.jobs.access import repository
from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.access.tokens import NO_DIGEST, new_api_key, parse_api_key, same_digest
from callboard.jobs.errors import Conflict, Duplicate, Forbidden, InvalidInput, NotFound, Unauthorized
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.fields import JobName, QueueName, invalid_input
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.postgres.database import Database

#: How long a key stays in the cache, in seconds. The HTTP server caches for another second, so a process
#: stops accepting a revoked key after at most 5 seconds.
_FRESH_SECONDS: Final = 4.0
_CACHE_SIZE: Final = 1_000
_QUEUE_NAME: Final = TypeAdapter(QueueName | None)
_JOB_NAME: Final = TypeAdapter(JobName | None)

log = structlog.get_logger(__name__)


class Role(IntEnum):
    """What a key may do. A higher role may do everything that a lower one may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> "Role":
        """Return the role of this name, in any case. Raises InvalidInput."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise InvalidInput(
                f"no role is called {name[:40]!r} (viewer, operator or admin)",
                fields={"role": "viewer, operator or admin"},
            ) from None


class Auth:
    """Creates, lists, revokes and checks API keys. A revocation takes effect within 5 seconds."""

    def __init__(self, database: Database, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        self._lock = Lock()
        self._seen: dict[str, tuple[float, ApiKey, str]] = {}

    def create(
        self,
        name: str,
        role: str,
        *,
        queue: str | None = None,
        job: str | None = None,
        expires: timedelta | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key; returns it with its token. The token is not stored, so it cannot be shown again.

        queue:   the only queue that the key may use; None: all queues. It may have no jobs yet.
        job:     the name of the only job that the key may use; None: all jobs.
        expires: the time from now until the key expires; None: never.

        Raises InvalidInput for a bad name, role, queue or job, Conflict when a key that is not revoked has
        the same name.
        """
        if not 1 <= len(name) <= 100 or not name.isprintable():  # noqa: PLR2004 - the limit of the column
            raise InvalidInput(
                "a key's name has 1 to 100 printable characters", fields={"name": "1 to 100 characters"}
            )
        Role.named(role)
        _check_name("queue", _QUEUE_NAME, queue)
        _check_name("job", _JOB_NAME, job)
        secret = new_api_key()
        values = {
            "id": new_id(), "name": name, "prefix": secret.prefix, "digest": secret.digest,
            "role": role.lower(), "queue": queue, "job": job, "expires": expires,
        }  # fmt: skip
        try:
            key = self._database.retrying(lambda connection: repository.create(connection, values))
        except Duplicate:
            raise Conflict(
                f"there is already a key called {name!r}; revoke it or choose another name"
            ) from None
        log.info("key.created", name=name, prefix=key.prefix, role=key.role, queue=queue, job=job)
        return key, secret.token

    def every(self) -> list[ApiKey]:
        """Return all keys, newest first; also those that are revoked or expired."""
        with self._database.autocommit() as connection:
            return repository.every(connection)

    def revoke(self, key: str) -> ApiKey:
        """Revoke the key with this name, prefix or id. Raises NotFound."""
        revoked = self._database.retrying(lambda connection: repository.revoke(connection, key))
        if revoked is None:
            raise NotFound(f"there is no key {key[:100]!r} to revoke")
        with self._lock:
            self._seen.pop(revoked.prefix, None)
        log.info("key.revoked", name=revoked.name, prefix=revoked.prefix)
        return revoked

    def authenticate(self, token: str) -> ApiKey:
        """Return the key of this token. Raises Unauthorized, with the same message for every reason.

        A wrong secret takes the same time for a prefix that exists as for one that does not: it costs two
        comparisons and one query. Only the right secret is answered from the cache.
        """
        prefix, digest = parse_api_key(token)
        with self._lock:
            seen = self._seen.get(prefix)
        now = self._clock.monotonic()
        known = same_digest(seen[2] if seen else NO_DIGEST, digest)
        if seen and known and now - seen[0] < _FRESH_SECONDS:
            return seen[1]
        key = self._read(prefix, digest)
        if key is None:
            raise Unauthorized("the API key is not valid")
        with self._lock:
            if len(self._seen) >= _CACHE_SIZE:
                self._seen.clear()
            self._seen[prefix] = (now, key, digest)
        return key

    def _read(self, prefix: str, digest: str) -> ApiKey | None:
        with self._database.autocommit() as connection:
            # The digest alone is read first: the rest of a row takes longer to read than no row.
            if not same_digest(repository.digest(connection, prefix), digest):
                return None
            return repository.find_valid(connection, prefix)


def require(key: ApiKey, role: Role) -> None:
    """Raise Forbidden unless the key has at least this role."""
    if Role.named(key.role) < role:
        raise Forbidden(f"this requires the role {role.name.lower()}; the key {key.name!r} has {key.role}")


def _check_name(what: str, form: TypeAdapter[str | None], name: str | None) -> None:
    try:
        form.validate_python(name)
    except ValidationError as error:
        raise invalid_input(error, prefix=what) from None
