"""The reaper: ends workers whose lease has run out, and gives their jobs back."""

from callboard.jobs.attempts.leases import Workers
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.clock import Clock


class Reaper:
    """Judges nobody until the database has been well for a whole lease.

    While the database is away nobody can renew; once it is back, all leases look dead until their holders
    have had their turn.
    """

    def __init__(self, workers: Workers, clock: Clock) -> None:
        self._workers = workers
        self._clock = clock
        self._well_since: float | None = None
        self._looked_at = float("-inf")

    def well(self) -> bool:
        """Take note that the database has just answered; whether it has been well for long enough to judge."""
        now = self._clock.monotonic()
        ttl = self._workers.ttl.total_seconds()
        # Who has not looked for a while (it stood by, or slept) knows nothing of how the database was meanwhile.
        if self._well_since is None or now - self._looked_at > ttl / 2:
            self._well_since = now
        self._looked_at = now
        return now - self._well_since >= ttl

    def unwell(self) -> None:
        """Take note that the database did not answer."""
        self._well_since = None

    def reap(self) -> int:
        """Take back the jobs of dead workers, once `well` has said that it may be done; returns how many."""
        try:
            return self._workers.reap()
        except Unavailable:
            self.unwell()
            raise
