"""A client for calls of one kind: every call ends in time, and every failure is RedisUnavailable.

After a failure, calls fail at once for a while.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from callboard.jobs.metrics import STORE_SECONDS, RedisOperation
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.redis.faults import Cause, FaultLog, RedisUnavailable, unavailable
from callboard.jobs.redis.timed_connections import CALL_TIMEOUT, look_elsewhere, make_client, within

#: After the n-th failure in a row, calls fail at once for 2 to the power of n times as long as the failed
#: call took.
_LONGEST_STREAK: Final = 6
#: After a failure that took less than this there is no pause. Seconds.
_CHEAP: Final = CALL_TIMEOUT / 4
#: The server is no master, or none that can be used. A new connection may reach another one: by another
#: Sentinel, or by DNS.
_WRONG_SERVER: Final = frozenset([Cause.READ_ONLY, Cause.MASTER_DOWN, Cause.AWAY, Cause.NOT_REDIS])


class Link:
    """A client for calls of one kind, each with its deadline.

    After a failed call there is a pause, in which all calls fail at once. It lasts a multiple of the time
    that the failed call took, at most `longest_pause` seconds. After the pause, one call tries again. There
    is no pause after a quick failure (connection refused, out of memory).
    """

    def __init__(
        self, url: str, *, longest_pause: float, clock: Clock = SYSTEM, faults: FaultLog | None = None
    ) -> None:
        self.client = make_client(url)
        self._clock = clock
        self._faults = FaultLog() if faults is None else faults
        self._longest_pause = longest_pause
        # Read and written without a lock: at worst two calls try at the same time.
        self._streak = 0
        self._refused_until = 0.0
        self._reason: RedisUnavailable | None = None

    @property
    def ailing(self) -> bool:
        """Whether the last call failed."""
        return self._streak > 0

    @contextmanager
    def call(self, operation: RedisOperation, timeout: float = CALL_TIMEOUT) -> Iterator[redis.Redis]:
        """Yield the client for one call. Raises RedisUnavailable when Redis fails, and during a pause.

        operation: the label of the metric that measures the call.
        """
        began = self._clock.monotonic()
        if began < self._refused_until and self._reason is not None:
            raise RedisUnavailable(self._reason.message, cause=self._reason.cause)
        if self._streak:
            # This call tries Redis again. Meanwhile other calls fail at once.
            self._refused_until = began + min(timeout, self._longest_pause)
        try:
            with unavailable(), within(timeout):
                yield self.client
        except RedisUnavailable as error:
            self._reason = error
            self._pause(self._clock.monotonic(), began)
            self._faults.put(error, operation)
            if error.cause in _WRONG_SERVER:
                look_elsewhere(self.client)
            raise
        finally:
            STORE_SECONDS.labels("redis", operation).observe(self._clock.monotonic() - began)
        if self._streak:
            self._streak, self._refused_until = 0, 0.0

    def close(self) -> None:
        self.client.close()

    def _pause(self, now: float, began: float) -> None:
        self._streak = min(self._streak + 1, _LONGEST_STREAK)
        cost = now - began if now - began > _CHEAP else 0.0
        self._refused_until = now + min(cost * 2**self._streak, self._longest_pause)
