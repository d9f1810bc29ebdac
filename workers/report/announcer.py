"""The announcer publishes the jobs that have finished."""

from collections import deque
from collections.abc import Sequence
from threading import Event
from typing import Final
from uuid import UUID

from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.redis.transport import Transport
from callboard.jobs.watched_thread import WatchedThread, refuse_jobs

#: The pause between two announcements under load, with listeners and without. The first after a pause is sent
#: at once. Seconds.
_ANNOUNCE_PAUSE: Final = 0.005
_ANNOUNCE_PAUSE_UNHEARD: Final = 0.1
_ANNOUNCE_BATCH: Final = 1_000


class Announcer(WatchedThread):
    """Publishes finished jobs for waiting callers, in its own thread: the flusher does not wait for Redis.

    An announcement that cannot be published is dropped. Waiting callers read their job once a second anyway.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__("callboard-announcer")
        self._transport = transport
        self._waiting: deque[UUID] = deque(maxlen=10 * _ANNOUNCE_BATCH)
        self._some = Event()
        self._stopping = Event()

    def put(self, finished: Sequence[UUID]) -> None:
        """Announce these jobs soon."""
        if finished:
            self._waiting.extend(finished)
            self._some.set()

    def work(self) -> None:
        while not self._stopping.is_set() or self._waiting:
            self._some.wait(timeout=0.5)
            self._some.clear()
            while self._waiting:
                heard = self._publish()
                self._stopping.wait(_ANNOUNCE_PAUSE if heard else _ANNOUNCE_PAUSE_UNHEARD)

    def stop(self) -> None:
        """Publish the waiting announcements, and end."""
        refuse_jobs(self.name)
        self._stopping.set()
        self._some.set()
        self.join(timeout=2)

    def _publish(self) -> bool:
        """Publish one batch; return whether there was a listener.

        Without listeners all announcements are dropped: a new listener reads its job first.
        """
        try:
            if not self._transport.listened_to():
                self._waiting.clear()
                return False
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _ANNOUNCE_BATCH))]
            return self._transport.announce(batch) > 0
        except Unavailable:
            STORE_ERRORS.labels("redis", "announce").inc()
            self._waiting.clear()
            return False
