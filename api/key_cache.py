"""Cache valid API keys for a moment, so that most requests need no thread and no query to check their key."""

import hashlib
from typing import Final

from starlette.concurrency import run_in_threadpool

from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.access.api_keys import Auth
from callboard.jobs.access.auth_failures import AuthFailures
from callboard.jobs.errors import Unauthorized
from callboard.jobs.model.basics.clock import SYSTEM, Clock

_MAX_KEYS: Final = 1_000


class KeyCache:
    """Accepts a key for `seconds` after the service accepted it. For use on one event loop.

    The cache holds digests, not tokens.
    """

    def __init__(
        self, auth: Auth, failures: AuthFailures, *, seconds: float = 1.0, clock: Clock = SYSTEM
    ) -> None:
        self._auth = auth
        self._failures = failures
        self._seconds = seconds
        self._clock = clock
        self._known: dict[bytes, tuple[float, ApiKey]] = {}

    async def authenticate(self, token: str, address: str) -> ApiKey:
        """Return the key of this token.

        Raises Unauthorized if it is not valid; RateLimited if there were too many such tokens from the
        client's address.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        now = self._clock.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        key = await run_in_threadpool(self._check, token, address)
        if len(self._known) >= _MAX_KEYS:
            self._known.clear()
        self._known[digest] = (now + self._seconds, key)
        return key

    def _check(self, token: str, address: str) -> ApiKey:
        try:
            return self._auth.authenticate(token)
        except Unauthorized:
            self._failures.count(address)
            raise
