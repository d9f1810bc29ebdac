"""The reaper: it ends workers whose lease has run out, and takes their jobs back."""

from callboard.jobs.attempts.leases import Workers
from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.model.basics.clock import Clock


class Reaper:
    """Ends leases only after the database has been available for the length of a whole lease.

    During an outage of the database, no worker can renew its lease. After the outage, all leases are expired
    until their workers have renewed them.
    """

    def __init__(self, workers: Workers, clock: Clock) -> None:
        self._workers = workers
        self._clock = clock
        self._available_since: float | None = None
        self._looked_at = float("-inf")

    def well(self) -> bool:
        """Record that the database has answered; return whether it has been available for long enough."""
        now = self._clock.monotonic()
        ttl = self._workers.ttl.total_seconds()
        # After a pause (as a standby, or asleep) it is not known whether the database was available
        # meanwhile.
        if self._available_since is None or now - self._looked_at > ttl / 2:
            self._available_since = now
        self._looked_at = now
        return now - self._available_since >= ttl

    def unwell(self) -> None:
        """Record that the database did not answer."""
        self._available_since = None

    def reap(self) -> int:
        """Take back the jobs of dead workers, after `well` has returned True; return how many."""
        try:
            return self._workers.reap()
        except Busy:
            # The database answers: it refused one statement.
            raise
        except Unavailable:
            self.unwell()
            raise
