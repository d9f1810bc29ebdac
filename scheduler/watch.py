"""The watch: several times a second it reads, with one statement, which work is due, and starts that work."""

from collections.abc import Callable
from typing import Final

from callboard.jobs.errors import Busy
from callboard.jobs.feed.feed import Feed
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.leader import Leader
from callboard.scheduler.reaper import Reaper

#: The longest and the shortest pause between two looks. Work that is due earlier shortens the pause. Seconds.
LOOK_EVERY: Final = 0.3
_SHORTEST_PAUSE: Final = 0.1

#: Runs a function in another thread, unless the last run with this name still runs. So no work delays other
#: work.
Start = Callable[[str, Callable[[], object]], None]


class Watch:
    """Looks for work. On an idle platform, the leader's looks are almost the only statements.

    A look uses the connection that holds the leader's lock. An answer proves that the lock is still held.
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
        """Read which work is due and start it; return the pause before the next look, in seconds."""
        try:
            found = self._leader.ask(Feed.look_as_leader)
        except Busy:
            # The database answers: it refused one statement.
            raise
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
            return _SHORTEST_PAUSE
        until = LOOK_EVERY if found.next_in is None else found.next_in.total_seconds()
        return min(max(until, _SHORTEST_PAUSE), LOOK_EVERY)
