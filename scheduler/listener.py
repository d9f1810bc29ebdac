"""The listener: it feeds queues at once when a transaction notifies it of new jobs, as SQL enqueues do."""

from contextlib import suppress
from threading import Event
from typing import Final

import structlog

from callboard.jobs.errors import Unavailable
from callboard.jobs.outage import Outage
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.listening import listening
from callboard.jobs.watched_thread import WatchedThread
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.leader import Leader

#: One wait for a notice takes at most this long. Seconds.
_WAIT: Final = 0.5
_RETRY_AFTER: Final = 1.0

log = structlog.get_logger(__name__)


class Listener(WatchedThread):
    """Waits for notices on a connection of its own. The feeder's next round finds what it misses."""

    def __init__(self, database: Database, feeder: Feeder, leader: Leader) -> None:
        super().__init__("callboard-listener")
        self._database = database
        self._feeder = feeder
        self._leader = leader
        self._stopping = Event()
        self._outage = Outage(log, "listener.waiting", "listener.recovered")

    def work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except Unavailable as error:
                self._outage.failed(error.message)
                self._stopping.wait(_RETRY_AFTER)
            except Exception:  # if this thread ended, every SQL enqueue would become slower without a message
                log.exception("listener.failed")
                self._stopping.wait(_RETRY_AFTER)

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join(timeout=2)

    def _listen(self) -> None:
        with listening(self._database) as wait_for_queues:
            self._outage.over()
            while not self._stopping.is_set():
                names = wait_for_queues(_WAIT)
                if names and self._leader.leads:
                    # While Redis does not answer, workers find the jobs in Postgres, and the listener
                    # continues.
                    with suppress(Unavailable):
                        self._feeder.feed(names)
