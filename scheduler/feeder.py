"""The feeder: brings what is due, and what Redis does not have, into the queues. The one loop that repairs everything.

Promotion of scheduled jobs, retries, pushes that never happened and a Redis that lost its memory are all the
same here: what is queued in Postgres is put into the queue's set, most urgent first; of a limited queue, what was
granted leave to start. Redis hears nothing of queues that have no job.
"""

from collections.abc import Iterable
from threading import Lock
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from callboard.jobs.attempts.repository import lease_rows
from callboard.jobs.errors import Unavailable
from callboard.jobs.feed import repository as feed_repository
from callboard.jobs.feed.upkeep import Upkeep
from callboard.jobs.limits.grants import Grants
from callboard.jobs.model.clock import Clock
from callboard.jobs.postgres.database import Database
from callboard.jobs.redis.link import RedisUnavailable
from callboard.jobs.redis.transport import WINDOW, Transport

TOKENS_FED = Counter("callboard_tokens_fed_total", "Tokens that the feeder put into Redis.", ["queue"])
LAG = Gauge("callboard_scheduler_lag_seconds", "How long ago the feeder last finished a round.")

#: Jobs staged in one statement.
_BATCH: Final = 5_000
#: The most urgent jobs of a queue, which every round makes sure of; and as many as it makes sure of when one of these
#: was missing.
_TOP: Final = 50
_HEAD: Final = 500
#: Tokens beyond each queue's top that one round offers; what is left waits for the next, which then comes sooner.
_MOST: Final = 6_000
#: Jobs leave Redis fast when a round has to bring so many.
_MANY: Final = 500

log = structlog.get_logger(__name__)

Row = tuple[str, int, int, int]


class Feeder:
    """One round at a time; rounds are called by the clock and by NOTIFY."""

    def __init__(self, database: Database, transport: Transport, clock: Clock) -> None:
        self._database = database
        self._transport = transport
        self._clock = clock
        self._grants = Grants(database)
        self._lock = Lock()
        self._finished_at = clock.monotonic()
        #: Queues with jobs of which workers know, and whether they are limited.
        self._known: set[tuple[str, bool]] = set()
        #: Whether the last round brought many tokens: the next one is worth making soon.
        self.busy = False
        LAG.set_function(lambda: self._clock.monotonic() - self._finished_at)

    def round(self) -> int:
        """Look what there is to do, and do it; returns how many tokens were new."""
        return self.work(self._look())

    def work(self, found: Upkeep) -> int:
        """Expire, stage what is due, and feed every queue that has jobs and is not paused; returns how many tokens were new."""
        with self._lock:
            if found.expires:
                self._expire()
            if found.due:
                self._stage()
                found = self._look()
            added = self._feed(found)
            self.busy = added >= _MANY
            self._finished_at = self._clock.monotonic()
            return added

    def rest(self) -> None:
        """Take note that there is nothing to do."""
        self.busy = False
        self._finished_at = self._clock.monotonic()

    def feed(self, names: Iterable[str]) -> int:
        """Feed these queues now, unless they are paused."""
        wanted = set(names)
        with self._lock:
            found = self._look()
            return self._feed(
                found._replace(
                    plain=[name for name in found.plain if name in wanted],
                    limited=[name for name in found.limited if name in wanted],
                )
            )

    def _look(self) -> Upkeep:
        with self._database.autocommit() as connection:
            return feed_repository.look(connection)

    def _feed(self, found: Upkeep) -> int:
        # Grants are made while Redis is away, too: workers then claim straight from Postgres.
        batches = {name: self._grants.make(name) for name in found.limited}
        if found.plain:
            with self._database.autocommit() as connection:
                batches |= feed_repository.heads(connection, found.plain, _TOP)
        offer = _Offer(self._transport)
        for name, rows in batches.items():
            offer.put(name, rows)
        offer.left = _MOST
        # The emptiest first.
        for name in sorted(offer.depths, key=lambda each: offer.depths[each]):
            if len(batches[name]) == _TOP and name not in found.limited:
                self._feed_on(name, offer)
        self._wake(found)
        if offer.refusal is not None:
            raise offer.refusal
        return offer.total

    def _feed_on(self, name: str, offer: "_Offer") -> None:
        """Feed the head of a queue when its top was not all there, and the rest of the window when the set has run half empty.

        What is in the set already is, all but, the head of the queue: the rest begins about where the set ends.
        """
        before = offer.depths[name] - offer.new[name]
        if (offer.new[name] or before < _HEAD) and offer.left > 0:
            wanted = min(_HEAD - _TOP, offer.left)
            rows = self._queued(name, wanted, _TOP)
            offer.put(name, rows)
            if len(rows) < wanted:
                return
        if before < WINDOW // 2 and offer.left > 0:
            start = max(_HEAD, before - _HEAD)
            offer.put(name, self._queued(name, min(WINDOW - start, offer.left), start))

    def _queued(self, name: str, limit: int, offset: int) -> list[Row]:
        with self._database.autocommit() as connection:
            return feed_repository.queued(connection, name, limit, offset)

    def _wake(self, found: Upkeep) -> None:
        """Tell workers of queues that are new to them, or newly limited. Who does not hear it finds out by himself."""
        now = {*((name, False) for name in found.plain), *((name, True) for name in found.limited)}
        if now <= self._known:
            return
        with self._database.autocommit() as connection:
            ids = lease_rows.ids(connection)
        try:
            self._transport.wake(ids)
        except Unavailable as error:
            log.debug("redis.wake_skipped", reason=error.message)
        self._known = {each for each in self._known if (each[0], not each[1]) not in now} | now

    def _stage(self) -> None:
        while True:
            staged = self._database.retrying(lambda connection: feed_repository.stage(connection, _BATCH))
            if staged:
                log.debug("jobs.staged", count=len(staged))
            if len(staged) < _BATCH:
                return

    def _expire(self) -> None:
        while True:
            expired = self._database.retrying(lambda connection: feed_repository.expire(connection, _BATCH))
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


class _Offer:
    """Tokens that one round puts into Redis, and what became of them, queue by queue."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        #: How many more tokens are worth offering.
        self.left = 0
        self.total = 0
        #: Of queues that Redis took tokens for: how many were new, and how many its set holds.
        self.new: dict[str, int] = {}
        self.depths: dict[str, int] = {}
        #: Perhaps it is only one queue's key that is somebody else's. When Redis is away, the rest hears at once.
        self.refusal: RedisUnavailable | None = None

    def put(self, name: str, rows: list[Row]) -> None:
        if not rows:
            return
        try:
            fed = self._transport.feed(name, rows)
        except RedisUnavailable as error:
            self.refusal = error
            return
        if fed.new:
            TOKENS_FED.labels(name).inc(fed.new)
        self.new[name] = self.new.get(name, 0) + fed.new
        self.depths[name] = fed.depth
        self.total += fed.new
        self.left -= len(rows)
