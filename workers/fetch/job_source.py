"""Decides where a worker child takes its next jobs: which queues, in which order, from Redis or Postgres.

Only the consumer's thread calls this module.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.attempts.claims import Claims
from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.outage import Outage
from callboard.jobs.redis.transport import WAKE, Transport
from callboard.workers.execute.attempt import JobKind
from callboard.workers.fetch.slots import Slots

#: A busy worker reads the list of queues this often. The scheduler can wake it earlier. Seconds.
_READ_QUEUES_EVERY: Final = 2.5
#: An idle worker asks Postgres for jobs this often while Redis works and has no tokens. It finds jobs that
#: could not be pushed (Redis is full or read-only, no scheduler leads), and new queues. Seconds.
_ASK_POSTGRES_EVERY: Final = 2.0
#: Every 8th pop starts with the least recently served queue.
_FAIR_TURN: Final = 8
#: A kind of jobs with a smaller share of a queue counts as absent.
_MIN_SHARE: Final = 1 / 64

log = structlog.get_logger(__name__)


class QueueMix:
    """The shares of sync and async jobs in one queue, estimated from the last claims.

    A token does not say which kind its job is. kinds: the kinds of the queue's job definitions. Before the
    first claim all of the queue's jobs may be of any of these kinds.
    """

    def __init__(self, kinds: Collection[JobKind]) -> None:
        self._shares = {kind: 1.0 if kind in kinds else 0.0 for kind in JobKind}

    @property
    def has_sync(self) -> bool:
        return self._shares[JobKind.SYNC] > 0

    def room(self, free: Mapping[JobKind, int]) -> int:
        """Return how many jobs of the queue fit into the free slots."""
        return min(int(free[kind] / share) for kind, share in self._shares.items() if share)

    def claimed(self, counts: Mapping[JobKind, int]) -> None:
        """Record how many jobs of each kind a claim took from the queue."""
        total = sum(counts.values())
        for kind in JobKind:
            share = (self._shares[kind] + counts.get(kind, 0) / total) / 2
            self._shares[kind] = share if share > _MIN_SHARE else 0.0


class QueueOrder:
    """The queues that this worker serves, and the order in which it asks them.

    Configured queues are asked in the configured order, but every 8th time the least recently served queue is
    first, so no queue starves. A worker of all queues always begins with the least recently served one.

    From a queue whose limits count running jobs, no more is claimed than can start at once: a granted job
    must not wait here while another worker is idle. Where only the jobs of each key count, short jobs are
    claimed ahead: then more of them share a commit. A job that waits here behind longer ones goes back,
    unless its start counts for a rate.
    """

    def __init__(
        self, claims: Claims, configured: Sequence[str], definitions: dict[str, JobDefinition], clock: Clock
    ) -> None:
        self._claims = claims
        self._configured = tuple(configured)
        self._clock = clock
        self._names: tuple[str, ...] = self._configured
        self._counted: frozenset[str] = frozenset()
        self._counted_by_key: frozenset[str] = frozenset()
        #: The queues whose limits count jobs that run, and no starts.
        self.returnable: frozenset[str] = frozenset()
        #: The queues that had something to claim when they were last read.
        self.ready: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._fair_every = _FAIR_TURN if self._configured else 1
        self._turn = 0
        #: The turn in which jobs of a queue were last claimed.
        self._served_at: dict[str, int] = {}
        kinds: dict[str, set[JobKind]] = {}
        for definition in definitions.values():
            kinds.setdefault(definition.queue, set()).add(JobKind.of(definition))
        self._mixes = {name: QueueMix(known) for name, known in kinds.items()}

    def any(self) -> bool:
        """Return whether there is any queue."""
        return bool(self._names)

    def with_room(self, slots: Slots) -> tuple[dict[str, int], bool]:
        """Return the queues for which slots are free, each with the number of jobs, and whether these are all
        queues.
        """
        if self.age >= _READ_QUEUES_EVERY:
            self.read()
        free = {kind: slots.free(kind) for kind in JobKind}
        counted = self._counted
        if not slots.ends_fast(JobKind.SYNC):
            counted |= self._counted_by_key
        rooms = {}
        for name in self._names:
            mix = self._mix(name)
            room = mix.room(free)
            if name in counted and mix.has_sync:
                room = min(room, slots.idle_threads())
            if room > 0:
                rooms[name] = room
        return rooms, len(rooms) == len(self._names)

    def in_turn(self, names: Iterable[str]) -> list[str]:
        """Return these queues in the order in which to ask them this time."""
        self._turn += 1
        if self._turn % self._fair_every:
            return list(names)
        return sorted(names, key=lambda name: self._served_at.get(name, 0))

    def served(self, claimed: Mapping[str, Mapping[JobKind, int]]) -> None:
        """Record how many jobs of each kind a claim took, by queue."""
        for name, counts in claimed.items():
            self._served_at[name] = self._turn
            self._mix(name).claimed(counts)

    @property
    def age(self) -> float:
        """Seconds since the queues were last read."""
        return self._clock.monotonic() - self._read_at

    def read(self) -> None:
        """Read from Postgres which queues exist, which are limited, and which have something to claim."""
        found = self._claims.served_queues(self._configured)
        if not self._configured:
            self._names = tuple(queue.name for queue in found)
        self._counted = frozenset(queue.name for queue in found if queue.counts_running)
        self._counted_by_key = frozenset(queue.name for queue in found if queue.counts_by_key)
        counted = self._counted | self._counted_by_key
        self.returnable = counted - {queue.name for queue in found if queue.counts_starts}
        self.ready = frozenset(queue.name for queue in found if queue.ready)
        self._read_at = self._clock.monotonic()

    def _mix(self, name: str) -> QueueMix:
        # Sync is the careful guess for a queue without definitions: only sync jobs can be too many for the
        # threads.
        return self._mixes.get(name) or self._mixes.setdefault(name, QueueMix({JobKind.SYNC}))


class TokenSource:
    """Takes tokens from Redis, and decides when to ask Postgres instead."""

    def __init__(self, queues: QueueOrder, transport: Transport, worker: UUID) -> None:
        self._queues = queues
        self._transport = transport
        self._worker = worker
        self._outage = Outage(log, "consumer.without_redis", "consumer.redis_back")
        #: Redis did not answer the last pop.
        self.away = False
        # The last claim without tokens found jobs, so there may be more.
        self._finding = False
        # The last pop returned tokens.
        self._flowing = False

    @property
    def unreliable(self) -> bool:
        """Whether Redis may lack tokens of jobs that are queued."""
        return self.away or self._finding

    def pop(self, queues: Sequence[str], rooms: Sequence[int], block: float) -> list[bytes] | None:
        """Take tokens of the first of these queues that has any, at most as many as it has room for.

        Returns None when the caller should claim without tokens. Waits up to `block` seconds. While Redis has
        tokens, each queue has its own room. For a pop that waits, the smallest room applies to all queues.
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
            self._outage.failed(error.message)
            self.away = True
            return None
        self._outage.over()
        self.away = False
        if raw == [WAKE]:
            self._queues.read()
            return []
        if raw or not (self._finding or self._queues.age >= _ASK_POSTGRES_EVERY):
            return raw
        return None

    def worth_asking(self, queues: Sequence[str]) -> Sequence[str]:
        """Return the queues of this list that may have jobs in Postgres."""
        if self._finding:
            return queues
        self._queues.read()
        return [name for name in queues if name in self._queues.ready]

    def asked(self, found: int, *, everywhere: bool) -> None:
        """Record the result of a claim without tokens: how many jobs, from all queues (`everywhere`) or from
        those with room.
        """
        if found or everywhere:
            self._finding = found > 0
