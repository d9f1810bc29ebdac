"""Grants: which jobs of a limited queue may start. The feeder calls this service.

For each queue and round: lock the queue, count what its limits leave free, and grant that many of the next
jobs, shared between the limit keys. A claim of a limited job needs its grant, whether its token came from
Redis or not. So a process that dies never causes a limit to be exceeded. When a job is deleted, rerun or
rescued, its grant becomes void, and its place is free in the next round.

A worker that ends a job may hand its place on itself, see `attempts/repository/handing_on.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog

from callboard.jobs.limits.repository import granting, limiting, realigning
from callboard.jobs.limits.repository.granting import START, Candidate, LimitUse, Place
from callboard.jobs.limits.sharing import Turn, shared
from callboard.jobs.metrics import GRANTS
from callboard.jobs.model.hint import FeedTokens
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection

#: The most grants of one queue that are not used yet. More would fix the order of jobs too early.
_OUTSTANDING: Final = 1_000
#: When so many were granted that more could not be, the next round follows. Seconds.
_SOON: Final = 0.05
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


class Granted(NamedTuple):
    """What a round of a queue found."""

    #: All granted jobs that have not started.
    tokens: FeedTokens
    #: In how many seconds more jobs may be granted. None: when a job ends or is enqueued.
    next_free: float | None


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

    def make(self, queue: str) -> Granted:
        """Grant as many jobs as the queue's limits allow."""
        memory = self._memory.setdefault(queue, _Memory())
        memory.version, number, granted = self._database.retrying(
            lambda connection: self._make(connection, queue, memory)
        )
        if number:
            GRANTS.labels(queue).inc(number)
            log.debug("queue.granted", queue=queue, count=number)
        return granted

    def realign(self) -> int:
        """Correct the times of grants that lie in the future; return how many there were.

        They do after the database's clock was set back. Such a start would count for its rate until its time
        comes, and such a grant would be used after all others. Counted from now, a start is counted for at
        least its whole period.
        """
        return self._database.retrying(realigning.realign)

    @staticmethod
    def _make(connection: Connection, queue: str, memory: _Memory) -> tuple[str, int, Granted]:
        found = limiting.lock(connection, queue)
        if found is None:
            return "", 0, Granted(FeedTokens(0, ""), None)
        its, version, is_within = found
        is_new = version != memory.version
        if is_new:
            # Claims that began under the old limits must be counted under the new ones.
            granting.settle(connection)
        now = _Round(connection, queue, its, memory)
        granting.sweep(connection, queue, its.longest_period)
        if its.longest_period:
            granting.fold(connection, queue, its.shortest_period, by_key=its.key_rate is not None)
        use = granting.use(connection, queue, its.longest_period if its.rate is None else its.rate.period)
        places = _places(its, use)
        if places > 0:
            _choose(now, places)
            if now.chosen:
                granting.grant(connection, queue, now.chosen)
        must_count = _keys_wait(now, places) or ((is_new or not is_within) and not _fits(now, use))
        if is_within == must_count:
            version = limiting.note_within(connection, queue, within=not must_count)
        tokens = granting.outstanding(connection, queue)
        return version, len(now.chosen), Granted(tokens, _next_free(now, use, tokens.number))


def _places(its: Limits, use: LimitUse) -> int:
    """Return how many more jobs of the queue may be granted."""
    left = [_OUTSTANDING - use.outstanding]
    if its.concurrency is not None:
        left.append(its.concurrency - _busy(use))
    if its.rate is not None:
        left.append(its.rate.amount - use.started - use.outstanding)
    return min(left)


def _fits(now: _Round, use: LimitUse) -> bool:
    """Return whether no more jobs run or are granted than queue and keys allow at once."""
    its = now.limits
    if its.concurrency is not None and _busy(use) > its.concurrency:
        return False
    return (
        its.key_concurrency is None or granting.busiest_key(now.connection, now.queue) <= its.key_concurrency
    )


def _keys_wait(now: _Round, places: int) -> bool:
    """Return whether keys may wait for places that others of their queue have: the round left none free.

    A free place that workers find later says nothing about that: the next round may give it to a key.
    """
    its = now.limits
    shares = its.concurrency is not None and its.key_concurrency is not None and not its.longest_period
    return shares and len(now.chosen) >= places


def _next_free(now: _Round, use: LimitUse, granted: int) -> float | None:
    """Return in how many seconds the next start no longer counts for one of the rates.

    Ends of jobs tell nothing about a rate. So when workers have used grants, and the rate allows more than
    were made, the next round follows soon.
    """
    periods = {rate.period for rate in (now.limits.rate, now.limits.key_rate) if rate}
    if periods and now.chosen and use.outstanding + len(now.chosen) >= _OUTSTANDING:
        return _SOON
    times = [granting.next_free(now.connection, now.queue, period, granted) for period in periods]
    return min((seconds for seconds in times if seconds is not None), default=None)


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
