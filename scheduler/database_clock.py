"""Notices a jump of the database's clock, by comparing it with the monotonic clock of this process."""

from datetime import datetime, timedelta
from typing import Final

from callboard.jobs.model.basics.clock import Clock

#: A smaller difference between both clocks is no jump: clocks are slewed, and drift.
_TOLERANCE: Final = timedelta(seconds=1)
_NO_JUMP: Final = timedelta(0)


class DatabaseClock:
    """Compares the times of two successive answers of the database with the time that has passed here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_at = clock.monotonic()
        #: The last time that the database told, and between which monotonic times it told it.
        self._last: tuple[datetime, float, float] | None = None

    @property
    def known(self) -> bool:
        """Whether an earlier time is known."""
        return self._last is not None

    def ask(self) -> None:
        """Record that the database is about to be asked."""
        self._asked_at = self._clock.monotonic()

    def told(self, at: datetime) -> timedelta:
        """Return how far the clock has jumped since its last time; negative: backwards, 0: not at all.

        A slow answer is no jump: the database told its time somewhere between question and answer.
        """
        last, asked, answered = self._last, self._asked_at, self._clock.monotonic()
        self._last = (at, asked, answered)
        if last is None:
            return _NO_JUMP
        passed = at - last[0]
        least, most = timedelta(seconds=asked - last[2]), timedelta(seconds=answered - last[1])
        if passed > most + _TOLERANCE:
            return passed - most
        if passed < least - _TOLERANCE:
            return passed - least
        return _NO_JUMP

    def forget(self) -> None:
        """Begin anew. Nothing is known of the time between."""
        self._last = None
