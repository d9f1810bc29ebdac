"""The watch: looks several times a second at what there is to do, in one statement, and has just that done."""

from collections.abc import Callable
from typing import Final

from callboard.jobs.feed import repository as feed_repository
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.leader import Leader
from callboard.scheduler.reaper import Reaper

#: Between two looks, when nothing is known to be due before; and the least, however much is due. Seconds.
LOOK_EVERY: Final = 0.3
_LEAST: Final = 0.1

#: Has something done by another thread, unless what has this name is still being done: nothing holds up the others.
Start = Callable[[str, Callable[[], object]], None]


class Watch:
    """On a platform that has nothing to do, the leader's looks are nearly all that Postgres hears.

    A look goes over the connection that holds the lock: it answers, so the lock is held.
    """

    def __init__(
        self, leader: Leader, feeder: Feeder, reaper: Reaper, tick: Callable[[], object], start: Start
    ) -> None:
        self._leader = leader
        self._feeder = feeder
        self._reaper = reaper
        self._tick = tick
        self._start = start

    def look(self) -> float:
        """See what there is to do, and have it done; returns after how many seconds the next look is worth while."""
        try:
            found = self._leader.ask(feed_repository.look)
        except Exception:
            self._reaper.unwell()
            raise
        if found is None:
            return LOOK_EVERY
        if found.for_feeder:
            self._start("feed", lambda: self._feeder.work(found))
        else:
            self._feeder.rest()
        if found.fires:
            self._start("tick", self._tick)
        if self._reaper.well() and found.dead:
            self._start("reap", self._reaper.reap)
        if self._feeder.busy:
            return _LEAST
        until = LOOK_EVERY if found.next_in is None else found.next_in.total_seconds()
        return min(max(until, _LEAST), LOOK_EVERY)
