"""The feeder: queues jobs that are due and puts queued jobs into Redis. It also repairs every lost push.

Delayed jobs, retries, failed pushes and the loss of all data in Redis are handled in the same way: the feeder
puts the jobs that are queued in Postgres into the queue's set in Redis, the most urgent first. For a limited
queue, it puts only granted jobs there. Queues without jobs cause no call to Redis.
"""

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from callboard.jobs.feed.upkeep import Upkeep
from callboard.jobs.metric_labels import Bounded
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.platform import Platform
from callboard.jobs.redis.faults import RedisUnavailable
from callboard.jobs.redis.transport import WINDOW, Transport, best_effort

TOKENS_FED = Bounded(
    Counter("callboard_tokens_fed_total", "Tokens that the feeder put into Redis.", ["queue"])
)
LAG = Gauge("callboard_scheduler_lag_seconds", "How long ago the feeder last finished a round.")

#: The number of jobs that one statement stages or expires.
_BATCH: Final = 5_000
#: Every round feeds this many of the most urgent jobs of each queue: the top.
_TOP: Final = 50
#: If a job of the top was missing in Redis, the round feeds this many jobs: the head.
_HEAD: Final = 500
#: A round feeds at most this many tokens beyond the tops: the window of one queue. When more is missing, the
#: next round follows at once. Other work can come between the two.
_MAX_TOKENS: Final = WINDOW - _TOP
#: So many rounds follow each other at once, at most. They fill the windows of as many queues.
_MOST_ROUNDS: Final = 20
#: A round that fed this many tokens shows that jobs leave Redis fast.
_MANY: Final = 500

log = structlog.get_logger(__name__)


class Feeder:
    """Feeds in rounds, one at a time. The clock and the notices of commits start them."""

    def __init__(self, platform: Platform, clock: Clock) -> None:
        self._service = platform.feed
        self._grants = platform.grants
        self._workers = platform.workers
        self._transport = platform.transport
        self._clock = clock
        #: Is told in how many seconds more jobs of a queue with a rate may be granted.
        self.on_next_free: Callable[[str, float], object] = lambda _queue, _seconds: None
        self._lock = Lock()
        self._finished_at = clock.monotonic()
        #: The queues with jobs that the workers know already: without limits, and with limits.
        self._known_plain: set[str] = set()
        self._known_limited: set[str] = set()
        #: Whether the last round fed many tokens, so that the next round should follow soon.
        self.busy = False
        #: Whether the last round left out tokens that are missing in Redis.
        self._unfinished = False
        LAG.set_function(lambda: self._clock.monotonic() - self._finished_at)

    def work(self, found: Upkeep) -> int:
        """Do the work that is due, in rounds, until no queue needs more; return the number of new tokens.

        While workers empty many queues, these always need more. The caller looks between, whether it still
        leads or was asked to stop.
        """
        added = self._round(found)
        for _ in range(_MOST_ROUNDS):
            if not self._unfinished:
                break
            added += self.round()
        return added

    def round(self) -> int:
        """Find the work that is due, and do one round of it; return the number of new tokens."""
        return self._round(self._service.look())

    def _round(self, found: Upkeep) -> int:
        """Expire jobs, stage due jobs, and feed the queues."""
        with self._lock:
            if found.expires:
                self._expire()
            if found.due:
                self._stage()
                found = self._service.look()
            round_ = self._feed(found)
            self._unfinished = round_.cut
            self.busy = round_.total >= _MANY
            self._finished_at = self._clock.monotonic()
            return round_.total

    def rest(self) -> None:
        """Record that there is nothing to do."""
        self.busy = False
        self._finished_at = self._clock.monotonic()

    def feed(self, names: Iterable[str]) -> int:
        """Feed these queues now, unless they are paused; return the number of new tokens."""
        wanted = set(names)
        with self._lock:
            found = self._service.look()
            return self._feed(
                found._replace(
                    plain=[name for name in found.plain if name in wanted],
                    limited=[name for name in found.limited if name in wanted],
                )
            ).total

    def feed_limited(self, names: Iterable[str]) -> int:
        """Feed these queues if they are limited; return the number of new tokens. Nothing else is read."""
        with self._lock:
            round_ = _Round(self._transport)
            for name in names:
                round_.put(name, self._grant(name))
            return round_.total

    def _grant(self, name: str) -> FeedTokens:
        granted = self._grants.make(name)
        if granted.next_free is not None:
            self.on_next_free(name, granted.next_free)
        return granted.tokens

    def _feed(self, found: Upkeep) -> "_Round":
        # Grants are made even while Redis is away: workers then claim granted jobs directly from Postgres.
        batches = {name: self._grant(name) for name in found.limited}
        if found.plain:
            batches |= self._service.heads(found.plain, _TOP)
        round_ = _Round(self._transport)
        for name, tokens in batches.items():
            round_.put(name, tokens)
        round_.left = _MAX_TOKENS
        # The emptiest set first.
        for name in sorted(round_.depths, key=lambda each: round_.depths[each]):
            if batches[name].number == _TOP and name not in found.limited:
                self._feed_more(name, round_)
        self._wake_workers(found)
        if round_.refusal is not None:
            raise round_.refusal
        return round_

    def _feed_more(self, name: str, round_: "_Round") -> None:
        """Feed the head of a queue if its top had gaps, and the whole window if its set is half empty.

        The set usually holds the first jobs of the queue, so the missing jobs start about where the set ends.
        """
        before = round_.depths[name] - round_.new[name]
        if (round_.new[name] or before < _HEAD) and not self._put_part(name, _TOP, _HEAD, round_):
            return
        if before < WINDOW // 2:
            self._put_part(name, max(_HEAD, before - _HEAD), WINDOW, round_)

    def _put_part(self, name: str, start: int, end: int, round_: "_Round") -> bool:
        """Feed the jobs between two places of a queue, as far as the round may; return if all were there."""
        wanted = min(end - start, round_.left)
        round_.cut |= wanted < end - start
        if wanted <= 0:
            return False
        tokens = self._service.queued(name, wanted, start)
        round_.put(name, tokens)
        return tokens.number == end - start

    def _wake_workers(self, found: Upkeep) -> None:
        """Wake the workers when a queue is new to them or newly limited.

        Without the wake-up, they notice the queue a little later.
        """
        plain, limited = set(found.plain), set(found.limited)
        if plain <= self._known_plain and limited <= self._known_limited:
            return
        workers = self._workers.live_ids()
        with best_effort("wake", count=len(workers)):
            self._transport.wake(workers)
        self._known_plain = (self._known_plain - limited) | plain
        self._known_limited = (self._known_limited - plain) | limited

    def _stage(self) -> None:
        while True:
            staged = self._service.stage(_BATCH)
            if staged:
                log.debug("jobs.staged", count=staged)
            if staged < _BATCH:
                return

    def _expire(self) -> None:
        while True:
            expired = self._service.expire(_BATCH)
            if expired:
                log.info("jobs.expired", count=len(expired))
                with best_effort("announce", count=len(expired)):
                    self._transport.announce(expired)
            if len(expired) < _BATCH:
                return


class _Round:
    """The tokens that one round feeds, counted by queue."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        #: How many more tokens the round may feed, and whether it needed more.
        self.left = 0
        self.cut = False
        self.total = 0
        #: For each queue that Redis took tokens for: how many were new, and how many its set holds.
        self.new: dict[str, int] = {}
        self.depths: dict[str, int] = {}
        #: The last error. It may affect only one queue, whose key has another type. When Redis does not
        #: answer, the calls for the other queues fail at once.
        self.refusal: RedisUnavailable | None = None

    def put(self, name: str, tokens: FeedTokens) -> None:
        """Feed tokens of one queue."""
        if not tokens.number:
            return
        try:
            fed = self._transport.feed(name, tokens)
        except RedisUnavailable as error:
            self.refusal = error
            return
        if fed.new:
            TOKENS_FED.labels(name).inc(fed.new)
        self.new[name] = self.new.get(name, 0) + fed.new
        self.depths[name] = fed.depth
        self.total += fed.new
        self.left -= tokens.number
