"""The watch: several times a second it reads, with one statement, which work is due, and starts that work."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import Counter

from callboard.jobs.errors import Busy
from callboard.jobs.feed.upkeep import Upkeep
from callboard.jobs.postgres.leadership import Leadership
from callboard.scheduler.database_clock import DatabaseClock
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.leader import Leader
from callboard.scheduler.reaper import Reaper

CLOCK_JUMPS = Counter(
    "callboard_database_clock_jumps_total",
    "Jumps of the database's clock by more than a second.",
    ["direction"],
)

#: The longest and the shortest pause between two looks. Work that is due earlier shortens the pause. Seconds.
LOOK_EVERY: Final = 0.3
_SHORTEST_PAUSE: Final = 0.1

#: Runs a function in another thread, unless the last run with this name still runs. So no work delays other
#: work.
Start = Callable[[str, Callable[[], object]], object]

log = structlog.get_logger(__name__)


class Watch:
    """Looks for work. On an idle platform, the leader's looks are almost the only statements.

    A look uses the connection that holds the leader's lock. An answer proves that the lock is still held.

    look:     reads which work is due, over the leader's connection.
    clock:    notices when the database's clock jumps.
    realign:  corrects the times in the database that are too late after its clock was set back.
    on_ahead: is called when the database's clock has jumped ahead.
    """

    def __init__(
        self,
        leader: Leader,
        feeder: Feeder,
        reaper: Reaper,
        tick: Callable[[], object],
        start: Start,
        *,
        look: Callable[[Leadership], Upkeep],
        clock: DatabaseClock,
        realign: Callable[[], object],
        on_ahead: Callable[[timedelta], object],
    ) -> None:
        self._leader = leader
        self._look = look
        self._feeder = feeder
        self._reaper = reaper
        self._tick = tick
        self._start = start
        self._clock = clock
        self._realign = realign
        self._on_ahead = on_ahead
        #: Whether the last look had an answer and the tables fitted this program.
        self.usable = False

    def look(self) -> float:
        """Read which work is due and start it; return the pause before the next look, in seconds."""
        self._clock.ask()
        try:
            found = self._leader.ask(self._look)
        except Busy:
            # The database answers: it refused one statement.
            raise
        except Exception:
            self.usable = False
            self._reaper.unwell()
            self._clock.forget()
            raise
        if found is None:
            self._clock.forget()
            return LOOK_EVERY
        self.usable = True
        self._check_clock(found)
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

    def _check_clock(self, found: Upkeep) -> None:
        """React when the database's clock has jumped, or may have jumped before this scheduler led."""
        may_have_jumped = not self._clock.known
        jump = self._clock.told(found.at)
        if jump:
            ahead = jump > timedelta(0)
            CLOCK_JUMPS.labels("ahead" if ahead else "back").inc()
            log.warning("scheduler.database_clock_jumped", seconds=round(jump.total_seconds(), 1))
            if ahead:
                # All leases may have run out, also those of workers that live.
                self._reaper.unwell()
                self._on_ahead(jump)
        if may_have_jumped or jump < timedelta(0):
            self._start("realign", self._realign)
