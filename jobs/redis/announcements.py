"""The subscription to finished jobs."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from callboard.jobs.redis.faults import FaultLog, RedisUnavailable, unavailable
from callboard.jobs.redis.timed_connections import CALL_TIMEOUT, within

if TYPE_CHECKING:
    from redis.client import PubSub


class Announcements:
    """A subscription to finished jobs. It must not be shared between threads."""

    def __init__(self, subscription: "PubSub", faults: FaultLog) -> None:
        self._subscription = subscription
        self._faults = faults

    def next(self, timeout: float) -> set[UUID]:
        """Return the ids of the next announcement; an empty set when none comes within `timeout` seconds."""
        try:
            # A lost connection is made again here, and this must end in time as well.
            with unavailable(), within(timeout + CALL_TIMEOUT):
                return _announced(self._subscription.get_message(timeout=timeout))
        except RedisUnavailable as error:
            self._faults.put(error, "announcements")
            raise

    def close(self) -> None:
        self._subscription.close()


def _announced(message: Any) -> set[UUID]:
    if not message or message.get("type") != "message":
        return set()
    try:
        return {UUID(part) for part in message["data"].decode("ascii").split(",")}
    except (ValueError, AttributeError):
        return set()
