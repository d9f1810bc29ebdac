"""A backend for Dramatiq's barriers and rate limiters that stores its counters in Postgres."""

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from dramatiq.rate_limits import RateLimiterBackend

from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: The pause between two reads while a wait lasts: in the first second, and after it. Seconds.
_FIRST_PAUSE: Final = 0.005
_LATER_PAUSE: Final = 0.1
#: How long a wait without a timeout waits. Milliseconds.
_DEFAULT_TIMEOUT: Final = 900_000


class PostgresLimits(RateLimiterBackend):
    """Dramatiq's rate limiter backend over counters that all processes share. Times are in milliseconds."""

    def __init__(self, connect: "Callable[[], Platform]") -> None:
        self._connect = connect

    def add(self, key: str, value: int, ttl: int) -> bool:
        return self._connect().counters.add(key, value, ttl)

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        return self._connect().counters.increase(key, amount, maximum, ttl)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        return self._connect().counters.decrease(key, amount, minimum, ttl)

    def incr_and_sum(self, key: str, keys: Callable[[], Any], amount: int, maximum: int, ttl: int) -> bool:
        return self._connect().counters.increase_within_sum(key, lambda: list(keys()), amount, maximum, ttl)

    def wait(self, key: str, timeout: int | None) -> bool:
        """Wait until `wait_notify` is called for the key; returns False when `timeout` is over first."""
        started = SYSTEM.monotonic()
        limit = (_DEFAULT_TIMEOUT if timeout is None else timeout) / 1000
        while not (notified := self._connect().counters.is_set(key)):
            waited = SYSTEM.monotonic() - started
            if waited >= limit:
                break
            pause = _FIRST_PAUSE if waited < 1 else _LATER_PAUSE
            Event().wait(min(pause, limit - waited))
        return notified

    def wait_notify(self, key: str, ttl: int) -> None:
        self._connect().counters.add(key, 1, ttl)
