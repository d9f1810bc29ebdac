"""Redis: every key, channel and script. Redis holds hints only; Postgres holds the truth.

For each queue, a sorted set holds the tokens (`id:epoch`) of queued jobs, the most urgent first. A worker
pops a token and claims the job in Postgres; the claim fails if the token is out of date. All of Redis may be
lost at any time.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import redis
import structlog

from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.hint import FeedTokens, Hint, Offer, offers_of
from callboard.jobs.redis.announcements import Announcements
from callboard.jobs.redis.faults import Cause, FaultLog, RedisUnavailable
from callboard.jobs.redis.key_owners import KeyOwners
from callboard.jobs.redis.link import Link
from callboard.jobs.redis.queue_tokens import AGEING
from callboard.jobs.redis.scripts import PUSH, TAKE, WAKE_WORKERS
from callboard.jobs.redis.timed_connections import CALL_TIMEOUT
from callboard.jobs.redis.typed_keys import TypedKeys

#: The size up to which a queue's set is filled, in tokens. More jobs wait in Postgres until the feeder adds
#: them.
WINDOW: Final = 5_000
#: The longest `block` of one pop, in seconds. It limits the time until a hanging Redis is noticed.
LONGEST_BLOCK: Final = 1.0
_CHUNK: Final = 1_000
#: The token that wakes a worker.
WAKE: Final = b"wake"
#: How long the wake token is kept for a worker that does not pop. Milliseconds.
_WAKE_KEPT: Final = 10_000
#: After a failure, calls fail at once for at most this time. It is shorter for the feeder, which must notice
#: soon that Redis works again. Seconds.
_LONGEST_PAUSE: Final = 5.0
_FEEDERS_PAUSE: Final = 0.5

_AGEING_MILLISECONDS: Final = AGEING // timedelta(milliseconds=1)
#: The script PUSH found the set full.
_FULL: Final = -1
#: A set that was full gets no tokens for this time, in which workers cannot empty it. Seconds.
_FULL_FOR: Final = 0.1

log = structlog.get_logger(__name__)


def score(priority: int, milliseconds: int) -> float:
    """Return the place of a token in its queue: low scores first, as in the index of queued jobs.

    milliseconds: the job's run_at, Unix time. One step of priority is worth ten minutes of waiting.
    """
    return float(priority * _AGEING_MILLISECONDS + milliseconds)


@contextmanager
def best_effort(operation: str, **facts: Any) -> Iterator[None]:
    """Run calls to Redis that may fail. A failure ends the block; it is counted and logged at debug level.

    Nothing is lost: the feeder repairs Redis from Postgres. operation: the metric's label, such as "push".
    """
    try:
        yield
    except Unavailable as error:
        STORE_ERRORS.labels("redis", operation).inc()
        log.debug(f"redis.{operation}_skipped", reason=error.message, **facts)  # noqa: G004 - an event's name


class Fed(NamedTuple):
    """The result of a feed: how many tokens were new, and how many the queue's set has now."""

    new: int
    depth: int


class Transport:
    """The queues in Redis. Every method raises Unavailable when Redis fails or does not answer in time.

    A call takes less than a second; a pop takes up to `block` seconds more. After a failure, calls fail at
    once for a few seconds.
    """

    def __init__(self, url: str, *, prefix: str = "callboard", clock: Clock = SYSTEM) -> None:
        self._prefix = prefix
        self._clock = clock
        #: By queue: until when its set counts as full. Monotonic seconds.
        self._full_until: dict[str, float] = {}
        #: What this process has logged about this Redis.
        self.faults = FaultLog(clock=clock)
        self._producers = Link(url, longest_pause=_LONGEST_PAUSE, faults=self.faults)
        self._announcers = Link(url, longest_pause=_LONGEST_PAUSE, faults=self.faults)
        self._feeders = Link(url, longest_pause=_FEEDERS_PAUSE, faults=self.faults)
        self._poppers = Link(url, longest_pause=_LONGEST_PAUSE, faults=self.faults)
        # For health checks and calls without a waiting caller. They are made even after a failure.
        self._others = Link(url, longest_pause=0, faults=self.faults)
        self._sets = TypedKeys(self._others, prefix=prefix, key_type="zset", faults=self.faults)
        self.owners = KeyOwners(self._others, prefix=prefix, faults=self.faults)

    def queue_key(self, queue: str) -> str:
        return f"{self._prefix}:queue:{queue}"

    def wake_key(self, worker: UUID) -> str:
        return f"{self._prefix}:wake:{worker}"

    @property
    def finished_channel(self) -> str:
        # Channels belong to the whole server, not to one of its databases.
        number = self._others.client.get_connection_kwargs().get("db") or 0
        return f"{self._prefix}:finished" + (f":{number}" if number else "")

    def push(self, hints: Iterable[Hint]) -> int:
        """Add the tokens of hints to their queues, unless a set is full; returns how many were new.

        Hints of queues with limits are left out, because only the feeder may push them. A queue whose set was
        full gets no tokens for a moment: its workers have enough to do, and the feeder adds the rest.
        """
        return self.offer(offers_of(hints))

    def offer(self, offers: Iterable[Offer]) -> int:
        """Do what `push` does, for hints that are grouped already."""
        now = self._clock.monotonic()
        parts = [
            (queue, score(priority, int(run_at.timestamp() * 1000)), tokens[start : start + _CHUNK])
            for queue, priority, run_at, tokens in offers
            if self._full_until.get(queue, 0.0) <= now
            for start in range(0, min(len(tokens), WINDOW), _CHUNK)
        ]
        if not parts:
            return 0
        keys = [self.queue_key(queue) for queue, _, _ in parts]
        taken = self._sets.run(keys, lambda: self._offer_parts(parts))
        for (queue, _, _), new in zip(parts, taken, strict=True):
            if new == _FULL:
                self._full_until[queue] = now + _FULL_FOR
        return sum(max(new, 0) for new in taken)

    def _offer_parts(self, parts: Sequence[tuple[str, float, Sequence[str]]]) -> list[int]:
        with self._producers.call("push") as client:
            if len(parts) == 1:
                return [int(self._offer(client, *parts[0]))]
            pipeline = client.pipeline(transaction=False)
            for part in parts:
                self._offer(pipeline, *part)
            return [int(new) for new in pipeline.execute()]

    def _offer(self, client: Any, queue: str, place: float, tokens: Sequence[str]) -> Any:
        return client.eval(PUSH, 1, self.queue_key(queue), WINDOW, place, *tokens)

    def feed(self, queue: str, tokens: FeedTokens) -> Fed:
        """Add tokens to one queue, even if its set is full."""
        key = self.queue_key(queue)
        return self._sets.run([key], lambda: self._feed(key, tokens))

    def _feed(self, key: str, tokens: FeedTokens) -> Fed:
        with self._feeders.call("feed") as client:
            pipeline = client.pipeline(transaction=False)
            self._add(pipeline, key, tokens)
            pipeline.zcard(key)
            *added, depth = cast("list[int]", pipeline.execute())
        return Fed(sum(added), depth)

    @staticmethod
    def _add(pipeline: Any, key: str, tokens: FeedTokens) -> None:
        # The client's own `zadd` wants a dictionary, which takes longer than the command.
        words = tokens.text.split()
        for start in range(0, len(words), 2 * _CHUNK):
            pipeline.execute_command("ZADD", key, "NX", *words[start : start + 2 * _CHUNK])

    def replace(self, queue: str, tokens: FeedTokens, gone: Collection[str]) -> None:
        """Add tokens to one queue, as `feed` does, and remove those of jobs that were claimed meanwhile."""
        key = self.queue_key(queue)
        self._sets.run([key], lambda: self._replace(key, tokens, gone))

    def _replace(self, key: str, tokens: FeedTokens, gone: Collection[str]) -> None:
        with self._producers.call("push") as client:
            pipeline = client.pipeline(transaction=False)
            if gone:
                pipeline.zrem(key, *gone)
            self._add(pipeline, key, tokens)
            pipeline.execute()

    def wake(self, workers: Iterable[UUID]) -> None:
        """Make the next pop of these workers return WAKE. The workers then read the list of queues."""
        keys = [self.wake_key(worker) for worker in workers]
        if keys:
            self._sets.run(keys, lambda: self._wake(keys))

    def _wake(self, keys: Sequence[str]) -> None:
        with self._feeders.call("wake") as client:
            client.eval(WAKE_WORKERS, len(keys), *keys, WAKE, _WAKE_KEPT)

    def pop(
        self, queues: Sequence[str], count: int, block: float, *, worker: UUID | None = None
    ) -> list[bytes]:
        """Pop up to `count` tokens from the first of these queues that has any. Waits up to `block` seconds.

        worker: the worker that pops. If `wake` was called for it, only WAKE is returned.
        """
        block = min(block, LONGEST_BLOCK)
        keys = [self.queue_key(queue) for queue in queues]
        if worker is not None:
            keys.insert(0, self.wake_key(worker))
        return self._sets.run(keys, lambda: self._pop(keys, count, block))

    def _pop(self, keys: Sequence[str], count: int, block: float) -> list[bytes]:
        if self._poppers.ailing:
            # After a failure, check with a short call that Redis is back before a call that blocks.
            with self._poppers.call("pop") as client:
                client.ping()
        # If the reply is lost, so are its tokens. The feeder adds them again.
        with self._poppers.call("wait" if block > 0 else "pop", block + CALL_TIMEOUT) as client:
            answer: Any = (
                client.bzmpop(block, len(keys), list(keys), min=True, count=count)
                if block > 0
                else client.zmpop(len(keys), list(keys), min=True, count=count)
            )
            return [] if answer is None else [member for member, _ in answer[1] if isinstance(member, bytes)]

    def take(self, queues: Sequence[str], counts: Sequence[int], *, worker: UUID) -> list[bytes]:
        """Pop without waiting, up to the given number of tokens of each queue. Returns WAKE as `pop` does."""
        keys = [self.wake_key(worker), *(self.queue_key(queue) for queue in queues)]
        return self._sets.run(keys, lambda: self._take(keys, counts))

    def _take(self, keys: Sequence[str], counts: Sequence[int]) -> list[bytes]:
        with self._poppers.call("pop") as client:
            answer: Any = client.eval(TAKE, len(keys), *keys, 1, *counts)
            return [member for member in answer if isinstance(member, bytes)]

    def depth(self, queue: str) -> int:
        """Return how many tokens a queue's set has."""
        key = self.queue_key(queue)
        return self._sets.run([key], lambda: self._depth(key))

    def _depth(self, key: str) -> int:
        with self._feeders.call("feed") as client:
            return int(client.zcard(key))

    def forget(self, queue: str) -> None:
        """Delete the tokens of a queue that was paused or purged."""
        with self._others.call("other") as client:
            # Unlike DEL, this does not delete the value of another program.
            client.zremrangebyrank(self.queue_key(queue), 0, -1)

    def announce(self, finished: Sequence[UUID]) -> int:
        """Publish that these jobs are in a terminal state; returns how many processes were listening."""
        if not finished:
            return 0
        with self._announcers.call("announce") as client:
            return int(client.publish(self.finished_channel, ",".join(str(job) for job in finished)))

    def listened_to(self) -> bool:
        """Return whether a process listens for finished jobs."""
        with self._announcers.call("announce") as client:
            [(_, listeners)] = client.pubsub_numsub(self.finished_channel)
            return int(listeners) > 0

    def announcements(self) -> "Announcements":
        """Subscribe to finished jobs."""
        with self._others.call("other") as client:
            subscription = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            subscription.subscribe(self.finished_channel)
            # Read the answer: it may be a refusal.
            subscription.get_message(timeout=CALL_TIMEOUT)
        return Announcements(subscription, self.faults)

    def check(self) -> None:
        """Raise Unavailable unless Redis answers and accepts writes. A full or read-only Redis does not."""
        with self._others.call("other") as client:
            self.check_with(client)

    def check_with(self, client: redis.Redis) -> None:
        """Do what `check` does, in a call that is made already."""
        # With NX, it never replaces the value of another program, and a server that is full refuses it.
        if client.set(f"{self._prefix}:check", b"", nx=True, px=1_000) not in {True, None}:
            raise RedisUnavailable("Redis gives an unexpected answer to a write", cause=Cause.NOT_REDIS)
        # Redis in cluster mode accepts no command with such keys.
        client.eval("return 1", 2, self.queue_key(""), f"{self._prefix}:wake:")

    def call(self, timeout: float) -> AbstractContextManager[redis.Redis]:
        """Return the client for the calls of `callboard doctor`, which have one deadline."""
        return self._others.call("other", timeout)

    def close(self) -> None:
        for link in (self._producers, self._announcers, self._feeders, self._poppers, self._others):
            link.close()
