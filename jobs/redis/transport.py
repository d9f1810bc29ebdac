"""Redis: every key, every channel, every script. What is here is a hint; the truth is in Postgres.

One sorted set a queue holds tokens `id:epoch` of jobs that are queued, most urgent first. Popping a token is
all there is: a claim in Postgres decides whether it still holds. All of it may vanish at any moment.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from uuid import UUID

from callboard.jobs.model.clock import SYSTEM, Clock
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.ids import text_of
from callboard.jobs.redis.link import PATIENCE, Link, RedisUnavailable, unavailable

if TYPE_CHECKING:
    from redis.client import PubSub

#: A queue's set is kept about this full; what is beyond waits in Postgres for the feeder.
WINDOW: Final = 5_000
#: Block at most this long in one pop, seconds: a Redis that hangs is noticed little later.
LONGEST_BLOCK: Final = 1.0
#: What one step of priority is worth (models.base.URGENCY says the same to Postgres).
AGEING: Final = timedelta(minutes=10)
_AGEING_MILLISECONDS: Final = AGEING // timedelta(milliseconds=1)
_CHUNK: Final = 1_000
#: What a worker pops that is told to wake, and how long the word stands for one that is gone, milliseconds.
WAKE: Final = b"wake"
_WAKE_KEPT: Final = 10_000
#: After a failure callers are spared at most this long; the feeder, which has to notice that Redis is back, less. Seconds.
_LONGEST_PAUSE: Final = 5.0
_FEEDERS_PAUSE: Final = 0.5

_TOKEN: Final = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):(\d{1,10})")
#: What the column holds.
_LARGEST_EPOCH: Final = 2**31 - 1

# Push tokens while the set has room.
# KEYS[1] the queue's set; ARGV[1] the window; ARGV[2] the score of all; ARGV[3..] tokens.
# Returns how many were new; -1 when the set is full (the feeder will bring them).
_PUSH: Final = """
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return -1 end
local members = {}
for place = 3, #ARGV do
  members[2 * place - 5] = ARGV[2]
  members[2 * place - 4] = ARGV[place]
end
return redis.call('ZADD', KEYS[1], 'NX', unpack(members))
"""
_FULL: Final = -1
#: How long nothing is offered to a set that was full: a worker takes longer to empty it. Seconds.
_FULL_FOR: Final = 0.1
# Take the first tokens of the first set that has any, each with a bound of its own.
# KEYS the queues' sets; ARGV[i] how many at most of KEYS[i]. Returns the tokens.
_TAKE: Final = """
for place, key in ipairs(KEYS) do
  local found, tokens = redis.call('ZPOPMIN', key, ARGV[place]), {}
  for each = 1, #found, 2 do tokens[#tokens + 1] = found[each] end
  if #tokens > 0 then return tokens end
end
return {}
"""


def score(priority: int, milliseconds: int) -> float:
    """The order within a queue, as the index of queued jobs has it: a step of priority is worth ten minutes of waiting."""
    return float(priority * _AGEING_MILLISECONDS + milliseconds)


def token(job: object, epoch: int) -> str:
    return f"{job}:{epoch}"


def read_token(raw: bytes) -> tuple[str, int] | None:
    """A token's (id, epoch); None for anything that is none (never an error: one bad member must not block others)."""
    found = _TOKEN.fullmatch(raw)
    if found is None or (epoch := int(found[2])) > _LARGEST_EPOCH:
        return None
    return found[1].decode(), epoch


class Offer(NamedTuple):
    """Tokens of one queue, each as urgent as the other."""

    queue: str
    priority: int
    run_at: datetime
    tokens: Sequence[str]


class Fed(NamedTuple):
    """What became of tokens that were fed: how many were new, and how many the queue's set holds now."""

    new: int
    depth: int


class Transport:
    """The queues in Redis. Every method raises Unavailable when Redis does not do what it is asked in good time.

    No call takes longer than a fraction of a second (a pop: than that and its block); after a failure
    calls fail at once for a while.
    """

    def __init__(self, url: str, *, prefix: str = "callboard", clock: Clock = SYSTEM) -> None:
        self._prefix = prefix
        self._clock = clock
        #: Until when a queue's set is taken to be full. Monotonic seconds.
        self._full_until: dict[str, float] = {}
        self._producers = Link(url, longest_pause=_LONGEST_PAUSE)
        self._announcers = Link(url, longest_pause=_LONGEST_PAUSE)
        self._feeders = Link(url, longest_pause=_FEEDERS_PAUSE)
        self._poppers = Link(url, longest_pause=_LONGEST_PAUSE)
        # For what is asked in order to know how Redis is, or has nobody waiting for it: these calls are always made.
        self._others = Link(url, longest_pause=0)

    def queue_key(self, queue: str) -> str:
        return f"{self._prefix}:queue:{queue}"

    def wake_key(self, worker: UUID) -> str:
        return f"{self._prefix}:wake:{worker}"

    @property
    def finished_channel(self) -> str:
        return f"{self._prefix}:finished"

    def push(self, hints: Iterable[Hint]) -> int:
        """Offer tokens to their queues, up to the window; returns how many were new. Limited queues are left to the feeder.

        A queue whose set was full is not offered any for a moment: there is enough to do, and the feeder brings the rest.
        """
        alike: dict[tuple[str, int, datetime], list[str]] = {}
        for hint in hints:
            if not hint.limited:
                tokens = alike.setdefault((hint.queue, hint.priority, hint.run_at), [])
                tokens.append(token(text_of(hint.id), hint.epoch))
        return self.offer([Offer(*same, tokens) for same, tokens in alike.items()])

    def offer(self, offers: Iterable[Offer]) -> int:
        """As `push`."""
        now = self._clock.monotonic()
        parts = [
            (queue, score(priority, int(run_at.timestamp() * 1000)), tokens[start : start + _CHUNK])
            for queue, priority, run_at, tokens in offers
            if self._full_until.get(queue, 0.0) <= now
            for start in range(0, min(len(tokens), WINDOW), _CHUNK)
        ]
        if not parts:
            return 0
        with self._producers.call() as client:
            if len(parts) == 1:
                taken = [self._offer(client, *parts[0])]
            else:
                pipeline = client.pipeline(transaction=False)
                for part in parts:
                    self._offer(pipeline, *part)
                taken = pipeline.execute()
            for (queue, _, _), new in zip(parts, taken, strict=True):
                if new == _FULL:
                    self._full_until[queue] = now + _FULL_FOR
            return sum(max(new, 0) for new in taken)

    def _offer(self, client: Any, queue: str, place: float, tokens: Sequence[str]) -> Any:
        return client.eval(_PUSH, 1, self.queue_key(queue), WINDOW, place, *tokens)

    def feed(self, queue: str, rows: Sequence[tuple[str, int, int, int]]) -> Fed:
        """Put tokens into one queue whatever it holds; rows are id, epoch, priority, milliseconds."""
        with self._feeders.call() as client:
            pipeline = client.pipeline(transaction=False)
            for start in range(0, len(rows), _CHUNK):
                members = {
                    token(job, epoch): score(priority, milliseconds)
                    for job, epoch, priority, milliseconds in rows[start : start + _CHUNK]
                }
                pipeline.zadd(self.queue_key(queue), cast("dict[Any, Any]", members), nx=True)
            pipeline.zcard(self.queue_key(queue))
            *added, depth = cast("list[int]", pipeline.execute())
        return Fed(sum(added), depth)

    def wake(self, workers: Iterable[UUID]) -> None:
        """Have these workers look at once at what queues there are; each hears it with its next pop."""
        with self._feeders.call() as client:
            pipeline = client.pipeline(transaction=False)
            for worker in workers:
                key = self.wake_key(worker)
                pipeline.zadd(key, {WAKE: 0})
                pipeline.pexpire(key, _WAKE_KEPT)
            pipeline.execute()

    def pop(
        self, queues: Sequence[str], count: int, block: float, *, worker: UUID | None = None
    ) -> list[bytes]:
        """Take up to `count` tokens from the first of these queues that has any; waits up to `block` seconds.

        worker: who hears, while it waits, that it should wake; the answer is then WAKE alone.
        """
        block = min(block, LONGEST_BLOCK)
        keys = [self.queue_key(queue) for queue in queues]
        if worker is not None:
            keys.insert(0, self.wake_key(worker))
        if self._poppers.ailing:
            # Whether it is back is asked briefly, before a whole block is spent on it.
            with self._poppers.call() as client:
                client.ping()
        # What a lost reply carried is fed again.
        with self._poppers.call(block + PATIENCE) as client:
            answer: Any = (
                client.bzmpop(block, len(keys), keys, min=True, count=count)
                if block > 0
                else client.zmpop(len(keys), keys, min=True, count=count)
            )
            return [] if answer is None else [member for member, _ in answer[1] if isinstance(member, bytes)]

    def take(self, queues: Sequence[str], counts: Sequence[int], *, worker: UUID) -> list[bytes]:
        """As `pop` for a worker that does not wait, with a count for each queue."""
        keys = [self.wake_key(worker), *(self.queue_key(queue) for queue in queues)]
        with self._poppers.call() as client:
            answer: Any = client.eval(_TAKE, len(keys), *keys, 1, *counts)
            return [member for member in answer if isinstance(member, bytes)]

    def depth(self, queue: str) -> int:
        with self._feeders.call() as client:
            return int(client.zcard(self.queue_key(queue)))

    def forget(self, queue: str) -> None:
        """Drop a queue's tokens: it was paused or purged."""
        with self._others.call() as client:
            client.delete(self.queue_key(queue))

    def announce(self, finished: Sequence[UUID]) -> int:
        """Tell those who wait that these jobs are in a terminal state; returns how many processes listened."""
        if not finished:
            return 0
        with self._announcers.call() as client:
            return int(client.publish(self.finished_channel, ",".join(str(job) for job in finished)))

    def listened_to(self) -> bool:
        """Whether anybody listens to what finishes."""
        with self._announcers.call() as client:
            [(_, listeners)] = client.pubsub_numsub(self.finished_channel)
            return int(listeners) > 0

    def announcements(self) -> "Announcements":
        """Listen from now on to what finishes."""
        with self._others.call() as client:
            subscription = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            subscription.subscribe(self.finished_channel)
        return Announcements(subscription)

    def check(self) -> None:
        """Raises Unavailable unless Redis answers and takes writes: one that is full or read-only is of no use."""
        with self._others.call() as client:
            if client.set(f"{self._prefix}:check", b"", px=1_000) is not True:
                raise RedisUnavailable("Redis does not answer with what it was asked for")

    def close(self) -> None:
        for link in (self._producers, self._announcers, self._feeders, self._poppers, self._others):
            link.close()


class Announcements:
    """One subscription to what finishes; not to be shared between threads."""

    def __init__(self, subscription: "PubSub") -> None:
        self._subscription = subscription

    def next(self, timeout: float) -> set[UUID]:
        """The jobs of the next announcement; empty when none comes within `timeout` seconds."""
        with unavailable():
            return _announced(self._subscription.get_message(timeout=timeout))

    def close(self) -> None:
        self._subscription.close()


def _announced(message: Any) -> set[UUID]:
    if not message or message.get("type") != "message":
        return set()
    try:
        return {UUID(part) for part in message["data"].decode("ascii").split(",")}
    except (ValueError, AttributeError):
        return set()
