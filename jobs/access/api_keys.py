"""Who may do what over HTTP: API keys with one of three roles."""

from datetime import timedelta
from enum import IntEnum
from threading import Lock
from typing import Final

import structlog
from sqlalchemy.exc import IntegrityError

from callboard.jobs.access import repository
from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.access.tokens import new_api_key, parse_api_key, same_digest
from callboard.jobs.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorized
from callboard.jobs.model.clock import SYSTEM, Clock
from callboard.jobs.model.ids import new_id
from callboard.jobs.postgres.database import Database

#: A revoked key may be believed for this long by a process that has seen it; with what an entry point remembers of its
#: own, for 5 seconds. Seconds.
_FRESH_SECONDS: Final = 4.0
_CACHE_SIZE: Final = 1_000

log = structlog.get_logger(__name__)


class Role(IntEnum):
    """What a key may do; each may all that the lower ones may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> "Role":
        try:
            return cls[name.upper()]
        except KeyError:
            raise InvalidInput(
                f"no role is called {name[:40]!r} (viewer, operator or admin)",
                fields={"role": "viewer, operator or admin"},
            ) from None


class Auth:
    """Makes, lists, revokes and checks API keys. A revocation takes hold everywhere within 5 seconds."""

    def __init__(self, database: Database, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        self._lock = Lock()
        self._seen: dict[str, tuple[float, ApiKey, str]] = {}

    def create(
        self, name: str, role: str, *, queue: str | None = None, expires: timedelta | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key; returns it with its token, which is shown this once and kept nowhere."""
        if not 1 <= len(name) <= 100 or not name.isprintable():  # noqa: PLR2004 - as the table has it
            raise InvalidInput(
                "a key's name has 1 to 100 printable characters", fields={"name": "1 to 100 characters"}
            )
        Role.named(role)
        secret = new_api_key()
        values = {
            "id": new_id(), "name": name, "prefix": secret.prefix, "digest": secret.digest,
            "role": role.lower(), "queue": queue, "expires": expires,
        }  # fmt: skip
        try:
            with self._database.transaction() as connection:
                key = repository.create(connection, values)
        except IntegrityError:
            raise Conflict(
                f"there is a key called {name!r} already; revoke it or choose another name"
            ) from None
        log.info("key.created", name=name, prefix=key.prefix, role=key.role)
        return key, secret.token

    def every(self) -> list[ApiKey]:
        with self._database.autocommit() as connection:
            return repository.every(connection)

    def revoke(self, key: str) -> ApiKey:
        """Revoke the key of this name, prefix or id."""
        with self._database.transaction() as connection:
            revoked = repository.revoke(connection, key)
        if revoked is None:
            raise NotFound(f"no key in force is called {key[:100]!r}")
        with self._lock:
            self._seen.pop(revoked.prefix, None)
        log.info("key.revoked", name=revoked.name, prefix=revoked.prefix)
        return revoked

    def authenticate(self, token: str) -> ApiKey:
        """The key that this token is; raises Unauthorized, the same for every reason."""
        prefix, digest = parse_api_key(token)
        found = self._look_up(prefix)
        if found is None or not same_digest(found[1], digest):
            raise Unauthorized("the API key is not valid")
        return found[0]

    def _look_up(self, prefix: str) -> tuple[ApiKey, str] | None:
        with self._lock:
            seen = self._seen.get(prefix)
        now = self._clock.monotonic()
        if seen and now - seen[0] < _FRESH_SECONDS:
            return seen[1], seen[2]
        with self._database.autocommit() as connection:
            found = repository.in_force(connection, prefix)
        if found is not None:
            with self._lock:
                if len(self._seen) >= _CACHE_SIZE:
                    self._seen.clear()
                self._seen[prefix] = (now, *found)
        return found


def require(key: ApiKey, role: Role, *, queue: str | None = None) -> None:
    """Let a key of at least this role pass, for this queue; raises Forbidden."""
    if Role.named(key.role) < role:
        raise Forbidden(f"this needs the role {role.name.lower()}; the key {key.name!r} is {key.role}")
    if key.queue is not None and queue != key.queue:
        raise Forbidden(f"the key {key.name!r} is confined to the queue {key.queue!r}")
