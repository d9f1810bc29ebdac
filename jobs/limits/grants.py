"""Grants: which jobs of a limited queue may start. Only this service, which the feeder calls, makes grants.

For each queue and round: lock the queue, count what its limits leave free, and grant that many of the next
jobs, shared between the limit keys. A claim of a limited job needs its grant, whether its token came from
Redis or not. So a process that dies never causes a limit to be exceeded. When a job is deleted, rerun or
rescued, its grant becomes void, and its place is free in the next round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from callboard.jobs.limits.repository import granting, limiting
from callboard.jobs.limits.repository.granting import START, Candidate, LimitUse, Place
from callboard.jobs.limits.sharing import Turn, shared
from callboard.jobs.metrics import GRANTS
from callboard.jobs.model.hint import FeedRow
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection

#: The most grants of one queue that are not used yet. More would fix the order of jobs too early.
_OUTSTANDING: Final = 1_000
#: How many keys one round reads: a few first, then more if none of those may start a job. The next round
#: continues after the last key.
_FEW_KEYS: Final = 50
_KEYS: Final = 500
#: In a queue that has keys, jobs without a key are searched among this many jobs.
_WINDOW: Final = 10_000
#: This many jobs at the head of the queue are searched in every round.
_FIRST: Final = 1_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Memory:
    """The key and the place at which the last round of a queue ended.

    It only makes the rounds fair, so it is not stored: a new feeder process starts with the first key.
    """

    version: str = ""
    key: str = ""
    place: Place = START


@dataclass(slots=True)
class _Round:
    """One round of one queue. The queue's lock is held."""

    connection: Connection
    queue: str
    limits: Limits
    memory: _Memory
    chosen: list[Candidate] = field(default_factory=list)


class Grants:
    """Makes grants for limited queues. Called from one thread.

    Several processes wait for each other's lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._memory: dict[str, _Memory] = {}

    def make(self, queue: str) -> list[FeedRow]:
        """Grant as many jobs as the queue's limits allow; return all granted jobs that have not started."""
        memory = self._memory.setdefault(queue, _Memory())
        version, granted, tokens = self._database.retrying(
            lambda connection: self._make(connection, queue, memory)
        )
        memory.version = version
        if granted:
            GRANTS.labels(queue).inc(granted)
            log.debug("queue.granted", queue=queue, count=granted)
        return tokens

    @staticmethod
    def _make(connection: Connection, queue: str, memory: _Memory) -> tuple[str, int, list[FeedRow]]:
        found = limiting.lock(connection, queue)
        if found is None:
            return "", 0, []
        its, version = found
        if version != memory.version:
            # Claims that began under the old limits must be counted under the new ones.
            granting.settle(connection)
        now = _Round(connection, queue, its, memory)
        granting.sweep(connection, queue, its.longest_period)
        if its.longest_period:
            granting.fold(connection, queue, its.shortest_period, by_key=its.key_rate is not None)
        places = _places(now)
        if places > 0:
            _choose(now, places)
            if now.chosen:
                granting.grant(connection, queue, now.chosen)
        return version, len(now.chosen), granting.outstanding(connection, queue)


def _places(now: _Round) -> int:
    """Return how many more jobs of the queue may be granted."""
    rate = now.limits.rate
    use = granting.use(now.connection, now.queue, now.limits.longest_period if rate is None else rate.period)
    left = [_OUTSTANDING - use.outstanding]
    if now.limits.concurrency is not None:
        left.append(now.limits.concurrency - use.running - use.outstanding)
    if rate is not None:
        left.append(rate.amount - use.started - use.outstanding)
    return min(left)


def _choose(now: _Round, places: int) -> None:
    """Share the places between the keys that have jobs. The jobs without a key count as one more key."""
    few = min(max(4 * places, _FEW_KEYS), _KEYS)
    for most in (few, _KEYS):
        keys = granting.keys(now.connection, now.queue, now.memory.key, most)
        if not keys:
            now.chosen = granting.plain(now.connection, now.queue, START, places + _OUTSTANDING, places)
            now.memory.place = START
            return
        _share(now, keys, places)
        if now.chosen or len(keys) < most:
            return


def _share(now: _Round, keys: Sequence[str], places: int) -> None:
    connection, queue, memory, place = now.connection, now.queue, now.memory, now.memory.place
    plain = granting.plain(connection, queue, place, _WINDOW, places)
    if place != START:
        # The most urgent jobs come first, independent of where the last round ended.
        first = granting.plain(connection, queue, START, _FIRST, places)
        known = {one.id for one in first}
        plain = [*first, *(one for one in plain if one.id not in known)]
    period = now.limits.key_rate.period if now.limits.key_rate else now.limits.longest_period
    use = granting.key_use(connection, queue, keys, period)
    counts = [(key, min(places, _left(now.limits, use[key]))) for key in keys]
    found: dict[str | None, list[Candidate]] = {None: plain}
    for one in granting.heads(connection, queue, _bounded(counts, places)):
        found.setdefault(one.key, []).append(one)
    turns = [Turn(key, _busy(use[key]), len(found.get(key, ()))) for key in (*keys, None)]
    got = shared(turns, places)
    now.chosen = [
        one for turn, count in zip(turns, got, strict=True) for one in found.get(turn.key, ())[:count]
    ]
    served = [key for key, count in zip(keys, got, strict=False) if count]
    # The next round starts after the last key that got a place. If places are left, every key that was read
    # got all it could use.
    memory.key = keys[-1] if len(now.chosen) < places or not served else served[-1]
    if len(plain) < places:
        memory.place = granting.place_behind(connection, queue, place, _WINDOW)


def _busy(use: LimitUse) -> int:
    return use.running + use.outstanding


def _left(its: Limits, use: LimitUse) -> int:
    """Return how many more jobs of one key may be granted."""
    left = [_OUTSTANDING]
    if its.key_concurrency is not None:
        left.append(its.key_concurrency - _busy(use))
    if its.key_rate is not None:
        left.append(its.key_rate.amount - use.started - use.outstanding)
    return max(min(left), 0)


def _bounded(counts: Sequence[tuple[str, int]], places: int) -> list[tuple[str, int]]:
    """Return how many jobs to read for each key that has places left: fewer when there are many keys."""
    open_ = [(key, count) for key, count in counts if count > 0]
    share = max(places * 4 // max(len(open_), 1), 1)
    return [(key, min(count, share)) for key, count in open_]
