"""Grants: what of a limited queue may start, decided here and nowhere else, by the feeder.

Per round and queue: lock the queue, count what its limits have left, and give that to the next jobs, in turn between
keys. A worker's claim takes a grant or is refused, whether the token came through Redis or not. So no limit is exceeded
whoever dies: a grant whose job is gone, rerun or rescued is void, and its place is free with the next round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import Connection

from callboard.jobs.limits import repository
from callboard.jobs.limits.repository import START, Candidate, Place, Use
from callboard.jobs.limits.sharing import Turn, shared
from callboard.jobs.metrics import GRANTS
from callboard.jobs.model.queue_limits import Limits
from callboard.jobs.postgres.database import Database

#: Grants of one queue that wait for a worker; more would only fix the order too early.
_OUTSTANDING: Final = 1_000
#: Keys looked at in one round; the next round goes on behind them. First so many, the rest when none of these may start.
_FEW_KEYS: Final = 50
_KEYS: Final = 500
#: Jobs among which those without a key are looked for, in a queue that has keys.
_WINDOW: Final = 10_000
#: Those at the head of it that are looked at each time.
_FIRST: Final = 1_000

log = structlog.get_logger(__name__)

Token = tuple[str, int, int, int]


@dataclass(slots=True)
class _Memory:
    """Where the last round of a queue ended. Not needed for any limit: a new feeder begins with the first key."""

    version: str = ""
    key: str = ""
    place: Place = START


@dataclass(slots=True)
class _Round:
    """One queue's round, under its lock."""

    connection: Connection
    queue: str
    limits: Limits
    memory: _Memory
    chosen: list[Candidate] = field(default_factory=list)


class Grants:
    """Makes grants for limited queues. To be called from one thread at a time; several processes only take turns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._memory: dict[str, _Memory] = {}

    def make(self, queue: str) -> list[Token]:
        """Grant what the queue's limits have left; returns the tokens of all that may start and has not."""
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
    def _make(connection: Connection, queue: str, memory: _Memory) -> tuple[str, int, list[Token]]:
        found = repository.lock(connection, queue)
        if found is None:
            return "", 0, []
        its, version = found
        if version != memory.version:
            # Claims that are under way under the old limits must be counted under the new ones.
            repository.settle(connection)
        now = _Round(connection, queue, its, memory)
        repository.sweep(connection, queue, its.longest_period)
        if its.longest_period:
            repository.fold(connection, queue, its.shortest_period, by_key=its.key_rate is not None)
        places = _places(now)
        if places > 0:
            _choose(now, places)
            if now.chosen:
                repository.grant(connection, queue, now.chosen)
        return version, len(now.chosen), repository.outstanding(connection, queue)


def _places(now: _Round) -> int:
    """How many more jobs of the queue may be granted."""
    rate = now.limits.rate
    use = repository.use(
        now.connection, now.queue, now.limits.longest_period if rate is None else rate.period
    )
    left = [_OUTSTANDING - use.outstanding]
    if now.limits.concurrency is not None:
        left.append(now.limits.concurrency - use.running - use.outstanding)
    if rate is not None:
        left.append(rate.amount - use.started - use.outstanding)
    return min(left)


def _choose(now: _Round, places: int) -> None:
    """Share the places between the keys that have jobs, and the jobs that have no key as if they were one more."""
    few = min(max(4 * places, _FEW_KEYS), _KEYS)
    for most in (few, _KEYS):
        keys = repository.keys(now.connection, now.queue, now.memory.key, most)
        if not keys:
            now.chosen = repository.plain(now.connection, now.queue, START, places + _OUTSTANDING, places)
            now.memory.place = START
            return
        _share(now, keys, places)
        if now.chosen or len(keys) < most:
            return


def _share(now: _Round, keys: Sequence[str], places: int) -> None:
    connection, queue, memory, place = now.connection, now.queue, now.memory, now.memory.place
    plain = repository.plain(connection, queue, place, _WINDOW, places)
    if place != START:
        # What is most urgent goes first, wherever the look has got to.
        first = repository.plain(connection, queue, START, _FIRST, places)
        known = {one.id for one in first}
        plain = [*first, *(one for one in plain if one.id not in known)]
    period = now.limits.key_rate.period if now.limits.key_rate else now.limits.longest_period
    use = repository.key_use(connection, queue, keys, period)
    counts = [(key, min(places, _left(now.limits, use[key]))) for key in keys]
    found: dict[str | None, list[Candidate]] = {None: plain}
    for one in repository.heads(connection, queue, _bounded(counts, places)):
        found.setdefault(one.key, []).append(one)
    turns = [Turn(key, _busy(use[key]), len(found.get(key, ()))) for key in (*keys, None)]
    got = shared(turns, places)
    now.chosen = [
        one for turn, count in zip(turns, got, strict=True) for one in found.get(turn.key, ())[:count]
    ]
    served = [key for key, count in zip(keys, got, strict=False) if count]
    # The next round begins behind the last key that got something; where places are left, all that were looked at had theirs.
    memory.key = keys[-1] if len(now.chosen) < places or not served else served[-1]
    if len(plain) < places:
        memory.place = repository.place_behind(connection, queue, place, _WINDOW)


def _busy(use: Use) -> int:
    return use.running + use.outstanding


def _left(its: Limits, use: Use) -> int:
    """How many more jobs of one key may be granted."""
    left = [_OUTSTANDING]
    if its.key_concurrency is not None:
        left.append(its.key_concurrency - _busy(use))
    if its.key_rate is not None:
        left.append(its.key_rate.amount - use.started - use.outstanding)
    return max(min(left), 0)


def _bounded(counts: Sequence[tuple[str, int]], places: int) -> list[tuple[str, int]]:
    """For each key that has places left, how many of its jobs are worth reading: few where keys are many."""
    open_ = [(key, count) for key, count in counts if count > 0]
    share = max(places * 4 // max(len(open_), 1), 1)
    return [(key, min(count, share)) for key, count in open_]
