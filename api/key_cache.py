"""Keys that were found good a moment ago, so that not every request goes through a thread to ask again."""

import hashlib
from typing import Final

from starlette.concurrency import run_in_threadpool

from callboard.jobs.access.api_key import ApiKey
from callboard.jobs.access.api_keys import Auth
from callboard.jobs.model.clock import SYSTEM, Clock

_MOST: Final = 1_000


class KeyMemory:
    """Believes a key for `seconds` after the service did. Used on one event loop; keeps digests, no tokens."""

    def __init__(self, auth: Auth, *, seconds: float = 1.0, clock: Clock = SYSTEM) -> None:
        self._auth = auth
        self._seconds = seconds
        self._clock = clock
        self._known: dict[bytes, tuple[float, ApiKey]] = {}

    async def authenticate(self, token: str) -> ApiKey:
        """The key that this token is; raises Unauthorized."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        now = self._clock.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        key = await run_in_threadpool(self._auth.authenticate, token)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[digest] = (now + self._seconds, key)
        return key
