"""Dramatiq's barriers and rate limiters, kept in Postgres."""

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from dramatiq.rate_limits import RateLimiterBackend

from callboard.jobs.model.clock import SYSTEM

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: Between two looks at whether a barrier has opened: at first, and when that has not been soon. Seconds.
_SOON: Final = 0.005
_LATER: Final = 0.1
#: What a wait without a timeout waits. Milliseconds.
_LONGEST: Final = 900_000


class PostgresLimits(RateLimiterBackend):
    """Counters that all processes share. Times are in milliseconds."""

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
        """Wait until the key has been notified of; whether that was within `timeout`."""
        begun = SYSTEM.monotonic()
        left, pause = (_LONGEST if timeout is None else timeout) / 1000, _SOON
        while not (there := self._connect().counters.is_set(key)):
            spent = SYSTEM.monotonic() - begun
            if spent >= left:
                break
            pause = _SOON if spent < 1 else _LATER
            Event().wait(min(pause, left - spent))
        return there

    def wait_notify(self, key: str, ttl: int) -> None:
        self._connect().counters.add(key, 1, ttl)
