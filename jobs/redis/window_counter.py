"""Counts that all processes share: how often a subject occurs within a window of time."""

from datetime import timedelta
from typing import Any, Final

from callboard.jobs.redis.faults import FaultLog
from callboard.jobs.redis.link import Link
from callboard.jobs.redis.typed_keys import TypedKeys

#: After a failure, calls fail at once for at most this time. Seconds.
_LONGEST_PAUSE: Final = 5.0
#: The subject that counts for all further subjects when a window has too many.
OTHERS: Final = "(other)"

# Count one occurrence of a subject.
# KEYS[1]: the hash of the window, a number for each subject.
# ARGV[1]: the subject. ARGV[2]: the largest number of subjects; further ones count as ARGV[3].
# ARGV[4]: after how many seconds the hash is deleted.
# Returns the subject's count.
_ADD: Final = """
local subject = ARGV[1]
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) and redis.call('HEXISTS', KEYS[1], subject) == 0 then
  subject = ARGV[3]
end
local count = redis.call('HINCRBY', KEYS[1], subject, 1)
if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[4]) end
return count
"""


class WindowCounter:
    """Counts subjects in numbered windows of the same length. Raises Unavailable when Redis fails.

    At most two windows are in Redis at a time, each one hash with at most `most` subjects and OTHERS.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        name: str,
        window: timedelta,
        most: int,
        faults: FaultLog | None = None,
    ) -> None:
        faults = FaultLog() if faults is None else faults
        self._link = Link(url, longest_pause=_LONGEST_PAUSE, faults=faults)
        self._hashes = TypedKeys(self._link, prefix=prefix, key_type="hash", faults=faults)
        self._key = f"{prefix}:{name}"
        self._kept_seconds = 2 * int(window.total_seconds())
        self._most = most

    def add(self, subject: str, window: int) -> int:
        """Count one occurrence in the window of this number; return the subject's count."""
        key = f"{self._key}:{window}"
        return self._hashes.run([key], lambda: self._add(key, subject))

    def _add(self, key: str, subject: str) -> int:
        with self._link.call("count") as client:
            count: Any = client.eval(_ADD, 1, key, subject, self._most, OTHERS, self._kept_seconds)
            return int(count)

    def close(self) -> None:
        self._link.close()
