"""The announcer: tells those who wait that jobs have finished. Off the flusher's path, and never more than it is worth."""

from collections import deque
from collections.abc import Sequence
from threading import Event, Thread
from typing import Final
from uuid import UUID

from callboard.jobs.errors import Unavailable
from callboard.jobs.metrics import STORE_ERRORS
from callboard.jobs.redis.transport import Transport

#: Between two announcements under load, when somebody hears them and when nobody does; the first after a pause goes
#: at once. Seconds.
_SPACING: Final = 0.005
_SPACING_UNHEARD: Final = 0.1
_MOST: Final = 1_000


class Announcer(Thread):
    """Publishes finished jobs. What cannot be published is dropped: who waits looks by himself once a second."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(name="callboard-announcer", daemon=True)
        self._transport = transport
        self._waiting: deque[UUID] = deque(maxlen=10 * _MOST)
        self._some = Event()
        self._stopping = Event()

    def put(self, finished: Sequence[UUID]) -> None:
        if finished:
            self._waiting.extend(finished)
            self._some.set()

    def run(self) -> None:
        while not self._stopping.is_set() or self._waiting:
            self._some.wait(timeout=0.5)
            self._some.clear()
            while self._waiting:
                heard = self._publish()
                self._stopping.wait(_SPACING if heard else _SPACING_UNHEARD)

    def stop(self) -> None:
        self._stopping.set()
        self._some.set()
        self.join(timeout=2)

    def _publish(self) -> bool:
        """Whether anybody heard it. Whoever begins to listen later looks for himself first, so what nobody hears is dropped."""
        try:
            if not self._transport.listened_to():
                self._waiting.clear()
                return False
            return (
                self._transport.announce(
                    [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST))]
                )
                > 0
            )
        except Unavailable:
            STORE_ERRORS.labels("redis", "announce").inc()
            self._waiting.clear()
            return False
