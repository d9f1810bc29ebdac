"""The timer of rates: it feeds a limited queue at the moment when its rate has places again."""

from functools import partial
from threading import Condition
from typing import Final

from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.watched_thread import WatchedThread
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.leader import Leader
from callboard.scheduler.loops import LoopWork

#: Two rounds of a queue have at least this pause. Places that become free within it are granted together.
#: It costs a rate of one second a quarter of a percent. Seconds.
_PAUSE: Final = 0.005
#: This machine's clock and the database's differ: a round that comes too early must be repeated. Seconds.
_MARGIN: Final = 0.001
#: What is due later is left to the feeder's own rounds. Seconds.
_FAR: Final = 1.0


class RateTimer(WatchedThread):
    """Waits for the next place of each rate. The feeder's own rounds find what it misses."""

    def __init__(self, feeder: Feeder, leader: Leader, clock: Clock) -> None:
        super().__init__("callboard-rate-timer")
        self._feeder = feeder
        self._leader = leader
        self._clock = clock
        self._guarded = LoopWork("rates")
        self._changed = Condition()
        #: When each queue is fed next. Monotonic seconds.
        self._due: dict[str, float] = {}
        self._stopping = False

    def call_in(self, queue: str, seconds: float) -> None:
        """Feed a queue in so many seconds."""
        if seconds < _FAR:
            with self._changed:
                self._due[queue] = self._clock.monotonic() + max(seconds + _MARGIN, _PAUSE)
                self._changed.notify()

    def work(self) -> None:
        while not self._stopping:
            queues = self._wait()
            if queues and self._leader.leads:
                self._guarded(partial(self._feeder.feed_limited, queues))

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.join(timeout=2)

    def _wait(self) -> list[str]:
        """Wait until a queue is due, or until it changed which is next; return the queues that are due."""
        with self._changed:
            if not self._stopping:
                left = min(self._due.values(), default=float("inf")) - self._clock.monotonic()
                self._changed.wait(min(max(left, 0.0), _FAR))
            now = self._clock.monotonic()
            due = [queue for queue, at in self._due.items() if at <= now]
            for queue in due:
                del self._due[queue]
            return due
