"""Hints: tokens from Redis, and the judgement of when to do without them and ask Postgres."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.redis.transport import WAKE, Transport
from callboard.workers.fetch.queue_order import Queues

#: How often Postgres is asked while Redis is well and has nothing: what could not be pushed (Redis is full or
#: read-only, or no scheduler leads) is found so, and what queues there are. Seconds.
_LOOK_EVERY: Final = 2.0

log = structlog.get_logger(__name__)


class Hints:
    """What to claim next, as Redis knows it. For the consumer's thread alone."""

    def __init__(self, queues: Queues, transport: Transport, worker: UUID) -> None:
        self._queues = queues
        self._transport = transport
        self._worker = worker
        #: Redis did not answer the last pop.
        self.away = False
        # Postgres had jobs the last time it was asked, and may have more.
        self._finding = False
        # The last pop had tokens.
        self._flowing = False

    @property
    def wanting(self) -> bool:
        """Whether Redis cannot be relied on to tell of what there is."""
        return self.away or self._finding

    def pop(self, queues: Sequence[str], rooms: Sequence[int], block: float) -> list[bytes] | None:
        """Tokens of the first of these queues that has any, no more than it has room for; None: ask Postgres.

        While tokens come, each queue's own room counts; one that had to be waited for has the least room of all.
        """
        try:
            raw = None
            if self._flowing and min(rooms) < max(rooms):
                raw = self._transport.take(queues, rooms, worker=self._worker)
            if not raw:
                wait = 0 if self._finding else block
                raw = self._transport.pop(queues, min(rooms), wait, worker=self._worker)
            self._flowing = bool(raw)
        except Unavailable as error:
            if not self.away:
                STORE_ERRORS.labels("redis", "pop").inc()
                log.warning("consumer.without_redis", reason=error.message)
            self.away = True
            return None
        if self.away:
            log.info("consumer.redis_back")
        self.away = False
        if raw == [WAKE]:
            self._queues.look()
            return []
        if raw or not (self._finding or self._queues.age >= _LOOK_EVERY):
            return raw
        return None

    def worth_asking(self, queues: Sequence[str]) -> Sequence[str]:
        """Those of these queues that Postgres may have jobs of."""
        if self._finding:
            return queues
        self._queues.look()
        return [name for name in queues if name in self._queues.ready]

    def asked(self, found: int, *, everywhere: bool) -> None:
        """Postgres was asked, for all queues or only for those that have room, and so many jobs were claimed."""
        if found or everywhere:
            self._finding = found > 0
