"""Which installations use the keys of a prefix: two that share keys take each other's tokens."""

from collections.abc import Sequence
from typing import Any, Final

from callboard.jobs.redis.faults import FaultLog
from callboard.jobs.redis.link import Link
from callboard.jobs.redis.typed_keys import TypedKeys

#: An installation that did not mark the keys for this time does not use them any more. Milliseconds.
_KEPT: Final = 30_000
#: The number of installations that are named.
_MOST: Final = 10

# Mark the keys as used by an installation, and forget those that use them no more.
# KEYS[1]: the sorted set of the installations, by the server's time in milliseconds.
# ARGV[1]: the installation. ARGV[2]: how long a mark is kept, in milliseconds. ARGV[3]: the most to return.
# Returns the installations.
_MARK: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZRANGE', KEYS[1], 0, ARGV[3] - 1)
"""


def owners_key(prefix: str) -> str:
    return f"{prefix}:owners"


class KeyOwners:
    """The marks of installations. Raises Unavailable when Redis fails."""

    def __init__(self, link: Link, *, prefix: str, faults: FaultLog) -> None:
        self._link = link
        self._key = owners_key(prefix)
        self._keys = TypedKeys(link, prefix=prefix, key_type="zset", faults=faults)

    def mark(self, owner: str) -> Sequence[str]:
        """Mark the keys as used by this installation; return the others that use them."""
        return self._keys.run([self._key], lambda: self._mark(owner))

    def _mark(self, owner: str) -> Sequence[str]:
        with self._link.call("other") as client:
            found: Any = client.eval(_MARK, 1, self._key, owner, _KEPT, _MOST)
            return [name for raw in found if (name := raw.decode(errors="replace")) != owner]
