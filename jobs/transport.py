"""Redis: every key, every channel, every script. What is here is a hint; the truth is in Postgres.

One sorted set a queue holds tokens `id:epoch` of jobs that are queued, most urgent first. Popping a token is
all there is: a claim in Postgres decides whether it still holds. All of it may vanish at any moment.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby
from typing import Any, Final, cast
from uuid import UUID

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.errors import Unavailable
from jobs.records import Hint

#: A queue's set is kept about this full; what is beyond waits in Postgres for the feeder.
WINDOW: Final = 5_000
#: Block at most this long in one pop, seconds; shorter than every socket timeout.
LONGEST_BLOCK: Final = 2.0
#: What one step of priority is worth (models.base.URGENCY says the same to Postgres).
AGEING: Final = timedelta(minutes=10)
_AGEING_MILLISECONDS: Final = AGEING // timedelta(milliseconds=1)
_SOCKET_TIMEOUT: Final = 5.0
_CHUNK: Final = 1_000

_TOKEN: Final = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):(\d{1,10})")
#: What the column holds.
_LARGEST_EPOCH: Final = 2**31 - 1

# Push tokens while the set has room.
# KEYS[1] the queue's set; ARGV[1] the window; ARGV[2..] score, token, score, token, ...
# Returns how many were new; 0 when the set is full (the feeder will bring them).
_PUSH: Final = """
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
return redis.call('ZADD', KEYS[1], 'NX', unpack(ARGV, 2))
"""


def score(priority: int, milliseconds: int) -> float:
    """The order within a queue, as the index of queued jobs has it: a step of priority is worth ten minutes of waiting."""
    return float(priority * _AGEING_MILLISECONDS + milliseconds)


def token(job: object, epoch: int) -> str:
    return f"{job}:{epoch}"


def _scored(hint: Hint) -> tuple[float, str]:
    return score(hint.priority, int(hint.run_at.timestamp() * 1000)), token(hint.id, hint.epoch)


def read_token(raw: bytes) -> tuple[str, int] | None:
    """A token's (id, epoch); None for anything that is none (never an error: one bad member must not block others)."""
    found = _TOKEN.fullmatch(raw)
    if found is None or (epoch := int(found[2])) > _LARGEST_EPOCH:
        return None
    return found[1].decode(), epoch


class Transport:
    """The queues in Redis. Every method raises Unavailable when Redis does not do what it is asked."""

    def __init__(self, url: str, *, prefix: str = "callboard") -> None:
        self._url = url
        self._prefix = prefix
        self._redis = self._connect(_SOCKET_TIMEOUT)
        # Pops block and must never be repeated by the client: what a lost reply carried is fed again.
        self._popper = self._connect(LONGEST_BLOCK + _SOCKET_TIMEOUT)
        self._push = self._redis.register_script(_PUSH)

    def queue_key(self, queue: str) -> str:
        return f"{self._prefix}:queue:{queue}"

    @property
    def finished_channel(self) -> str:
        return f"{self._prefix}:finished"

    def push(self, hints: Iterable[Hint]) -> int:
        """Offer tokens to their queues, up to the window; returns how many were new."""
        ordered = sorted(hints, key=lambda hint: hint.queue)
        added = 0
        with unavailable():
            for queue, group in groupby(ordered, key=lambda hint: hint.queue):
                members = list(group)[:WINDOW]
                for start in range(0, len(members), _CHUNK):
                    pairs = [part for hint in members[start : start + _CHUNK] for part in _scored(hint)]
                    added += self._push(keys=[self.queue_key(queue)], args=[WINDOW, *pairs])
        return added

    def feed(self, queue: str, rows: Sequence[tuple[str, int, int, int]]) -> int:
        """Put tokens into one queue whatever it holds; rows are id, epoch, priority, milliseconds.

        Returns how many were new.
        """
        if not rows:
            return 0
        with unavailable():
            pipeline = self._redis.pipeline(transaction=False)
            for start in range(0, len(rows), _CHUNK):
                members = {
                    token(job, epoch): score(priority, milliseconds)
                    for job, epoch, priority, milliseconds in rows[start : start + _CHUNK]
                }
                pipeline.zadd(self.queue_key(queue), cast("dict[Any, Any]", members), nx=True)
            return sum(cast("list[int]", pipeline.execute()))

    def pop(self, queues: Sequence[str], count: int, block: float) -> list[bytes]:
        """Take up to `count` tokens from the first of these queues that has any; waits up to `block` seconds."""
        with unavailable():
            answer = cast(
                "tuple[bytes, list[tuple[bytes, float]]] | None",
                self._popper.bzmpop(
                    min(block, LONGEST_BLOCK),
                    len(queues),
                    [self.queue_key(queue) for queue in queues],
                    min=True,
                    count=count,
                ),
            )
        return [] if answer is None else [member for member, _ in answer[1]]

    def depth(self, queue: str) -> int:
        with unavailable():
            return self._redis.zcard(self.queue_key(queue))

    def forget(self, queue: str) -> None:
        """Drop a queue's tokens: it was paused or purged."""
        with unavailable():
            self._redis.delete(self.queue_key(queue))

    def announce(self, finished: Sequence[UUID]) -> int:
        """Tell those who wait that these jobs are in a terminal state; returns how many processes listened."""
        if not finished:
            return 0
        with unavailable():
            return int(self._redis.publish(self.finished_channel, ",".join(str(job) for job in finished)))

    def announcements(self) -> "Announcements":
        """Listen from now on to what finishes."""
        with unavailable():
            subscription = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            subscription.subscribe(self.finished_channel)
        return Announcements(subscription)

    def ping(self) -> None:
        with unavailable():
            self._redis.ping()

    def close(self) -> None:
        self._redis.close()
        self._popper.close()

    def _connect(self, socket_timeout: float) -> redis.Redis:
        over_tcp: dict[str, Any] = {} if self._url.startswith("unix:") else {"socket_keepalive": True}
        return redis.Redis.from_url(
            self._url,
            socket_timeout=socket_timeout,
            socket_connect_timeout=2.0,
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
            **over_tcp,
        )


class Announcements:
    """One subscription to what finishes; not to be shared between threads."""

    def __init__(self, subscription: "redis.client.PubSub") -> None:
        self._subscription = subscription

    def next(self, timeout: float) -> set[UUID]:
        """The jobs of the next announcement; empty when none comes within `timeout` seconds."""
        with unavailable():
            return _announced(self._subscription.get_message(timeout=timeout))

    def close(self) -> None:
        self._subscription.close()


@contextmanager
def unavailable() -> Iterator[None]:
    """Every way in which Redis can fail to do what it is asked, as Unavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        # redis-py's TimeoutError is no ConnectionError; OOM, READONLY and LOADING are ResponseErrors: all mean 'not now'.
        raise Unavailable(f"Redis does not answer: {str(error)[:200] or type(error).__name__}") from error


def _announced(message: Any) -> set[UUID]:
    if not message or message.get("type") != "message":
        return set()
    try:
        return {UUID(part) for part in message["data"].decode("ascii").split(",")}
    except (ValueError, AttributeError):
        return set()
