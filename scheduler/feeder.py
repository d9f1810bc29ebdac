"""The feeder: brings what is due, and what Redis does not have, into the queues. The one loop that repairs everything.

Promotion of scheduled jobs, retries, pushes that never happened and a Redis that lost its memory are all the
same here: what is queued in Postgres is put into the queue's set, most urgent first; of a limited queue, what was
granted leave to start.
"""

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from jobs.clock import Clock
from jobs.database import Database
from jobs.errors import Unavailable
from jobs.redis_link import RedisUnavailable
from jobs.repositories import job_moves, job_queries, queues
from jobs.repositories.queues import Feedable
from jobs.services.limits import Grants, Token
from jobs.transport import WINDOW, Transport

TOKENS_FED = Counter("callboard_tokens_fed_total", "Tokens that the feeder put into Redis.", ["queue"])
LAG = Gauge("callboard_scheduler_lag_seconds", "How long ago the feeder last finished a round.")

#: Jobs staged in one statement.
_BATCH: Final = 5_000
#: The most urgent jobs of a queue, which every round makes sure of.
_HEAD: Final = 500

log = structlog.get_logger(__name__)


class Feeder:
    """One round at a time; rounds are called by the clock and by NOTIFY."""

    def __init__(self, database: Database, transport: Transport, clock: Clock) -> None:
        self._database = database
        self._transport = transport
        self._clock = clock
        self._grants = Grants(database)
        self._lock = Lock()
        self._finished_at = clock.monotonic()
        LAG.set_function(lambda: self._clock.monotonic() - self._finished_at)

    def round(self) -> int:
        """Expire, stage what is due, and feed every queue that is not paused; returns how many tokens were new."""
        with self._lock:
            self._expire()
            self._stage()
            added = self._feed(self._feedable())
            self._finished_at = self._clock.monotonic()
            return added

    def feed(self, names: Iterable[str]) -> int:
        """Feed these queues now, unless they are paused."""
        wanted = set(names)
        with self._lock:
            return self._feed([queue for queue in self._feedable() if queue.name in wanted])

    def _feedable(self) -> list[Feedable]:
        with self._database.autocommit() as connection:
            return queues.feedable(connection)

    def _feed(self, found: Sequence[Feedable]) -> int:
        # Grants are made while Redis is away, too: workers then claim straight from Postgres.
        granted = {queue.name: self._grants.make(queue.name) for queue in found if queue.limited}
        added = 0
        refusal: RedisUnavailable | None = None
        for queue in found:
            try:
                new = self._feed_one(queue.name, granted.get(queue.name))
            except RedisUnavailable as error:
                # Perhaps it is only this queue's key that is somebody else's. When Redis is away, the rest hears at once.
                refusal = error
                continue
            if new:
                TOKENS_FED.labels(queue.name).inc(new)
            added += new
        if refusal is not None:
            raise refusal
        return added

    def _feed_one(self, name: str, granted: list[Token] | None) -> int:
        if granted is not None:
            return self._transport.feed(name, granted)
        return self._feed_head(name)

    def _feed_head(self, name: str) -> int:
        """Feed the head of a queue always, the rest of the window when the set has run half empty.

        What is in the set already is, all but, the head of the queue: the rest begins about where the set ends.
        """
        depth = self._transport.depth(name)
        rows = self._queued(name, _HEAD, 0)
        if len(rows) == _HEAD and depth < WINDOW // 2:
            start = max(_HEAD, depth - _HEAD)
            rows += self._queued(name, WINDOW - start, start)
        return self._transport.feed(name, rows)

    def _queued(self, name: str, limit: int, offset: int) -> list[tuple[str, int, int, int]]:
        with self._database.autocommit() as connection:
            return job_queries.queued(connection, name, limit, offset)

    def _stage(self) -> None:
        while True:
            staged = self._database.retrying(lambda connection: job_moves.stage(connection, _BATCH))
            if staged:
                log.debug("jobs.staged", count=len(staged))
            if len(staged) < _BATCH:
                return

    def _expire(self) -> None:
        while True:
            expired = self._database.retrying(lambda connection: job_moves.expire(connection, _BATCH))
            if expired:
                log.info("jobs.expired", count=len(expired))
                self._announce([job.id for job in expired])
            if len(expired) < _BATCH:
                return

    def _announce(self, ids: list[UUID]) -> None:
        try:
            self._transport.announce(ids)
        except Unavailable as error:
            log.debug("redis.announce_skipped", reason=error.message)
