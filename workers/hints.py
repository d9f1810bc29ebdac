"""Hints: tokens from Redis, and the judgement of when to do without them and ask Postgres."""

from collections.abc import Sequence
from typing import Final

import structlog

from jobs.clock import Clock
from jobs.errors import Unavailable
from jobs.metrics import STORE_ERRORS
from jobs.services.execution import Execution
from jobs.transport import Transport

#: How often Postgres is asked while Redis is well and has nothing: what could not be pushed (Redis is full or
#: read-only, or no scheduler leads) is found so. One look at an index, seconds.
_LOOK_EVERY: Final = 1.0

log = structlog.get_logger(__name__)


class Hints:
    """What to claim next, as Redis knows it. For the consumer's thread alone."""

    def __init__(self, execution: Execution, transport: Transport, clock: Clock) -> None:
        self._execution = execution
        self._transport = transport
        self._clock = clock
        #: Redis did not answer the last pop.
        self.away = False
        # Postgres had jobs the last time it was asked, and may have more.
        self._finding = False
        self._asked_at = float("-inf")

    @property
    def wanting(self) -> bool:
        """Whether Redis cannot be relied on to tell of what there is."""
        return self.away or self._finding

    def pop(self, queues: Sequence[str], count: int, block: float) -> list[bytes] | None:
        """Tokens of these queues, perhaps none; None when it is Postgres that should be asked."""
        try:
            raw = self._transport.pop(queues, count, 0 if self._finding else block)
        except Unavailable as error:
            if not self.away:
                STORE_ERRORS.labels("redis", "pop").inc()
                log.warning("consumer.without_redis", reason=error.message)
            self.away = True
            return None
        if self.away:
            log.info("consumer.redis_back")
        self.away = False
        if raw or not (self._finding or self._clock.monotonic() - self._asked_at >= _LOOK_EVERY):
            return raw
        return None

    def worth_asking(self, queues: Sequence[str]) -> Sequence[str]:
        """Those of these queues that Postgres may have jobs of."""
        self._asked_at = self._clock.monotonic()
        return queues if self._finding else self._execution.with_jobs(queues)

    def asked(self, found: int, *, everywhere: bool) -> None:
        """Postgres was asked, for all queues or only for those that have room, and so many jobs were claimed."""
        if found or everywhere:
            self._finding = found > 0
