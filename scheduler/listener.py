"""The listener: hears the commits of those who enqueue by SQL or in a transaction of their own, and feeds at once."""

from contextlib import suppress
from threading import Event, Thread
from typing import Final

import structlog

from callboard.jobs.errors import Unavailable
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.scheduler.feeder import Feeder
from callboard.scheduler.leader import Leader

_LOOK_UP: Final = 0.5
_RETRY_AFTER: Final = 1.0

log = structlog.get_logger(__name__)


class Listener(Thread):
    """A connection of its own that waits for NOTIFY. What it misses, the next round of the feeder finds."""

    def __init__(self, database: Database, feeder: Feeder, leader: Leader) -> None:
        super().__init__(name="callboard-listener", daemon=True)
        self._database = database
        self._feeder = feeder
        self._leader = leader
        self._stopping = Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except Unavailable as error:
                log.debug("listener.waiting", reason=error.message)
                self._stopping.wait(_RETRY_AFTER)
            except Exception:  # a listener that ends would slow every SQL enqueue down without a word
                log.exception("listener.failed")
                self._stopping.wait(_RETRY_AFTER)

    def stop(self) -> None:
        self._stopping.set()
        self.join(timeout=2)

    def _listen(self) -> None:
        with self._database.autocommit() as connection:
            notices.listen(connection)
            try:
                while not self._stopping.is_set():
                    names = notices.heard(connection, _LOOK_UP)
                    if names and self._leader.leads:
                        # Redis may be away: then workers find the jobs in Postgres, and listening goes on.
                        with suppress(Unavailable):
                            self._feeder.feed(names)
            finally:
                # It listens: it must not be lent to anyone else.
                connection.invalidate()
