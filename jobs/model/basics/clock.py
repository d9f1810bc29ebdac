"""The clock of this process. Postgres dates what is stored; this clock dates what is decided in memory."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Tests use their own clock."""

    def now(self) -> datetime:
        """The current time: timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, to measure time spans."""
        ...


class SystemClock:
    """The clock of the machine.

    It keeps the functions of Python: a job may replace those in the modules, as libraries for tests do.
    """

    _clock = datetime
    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        return self._clock.now(UTC)


SYSTEM: Clock = SystemClock()
