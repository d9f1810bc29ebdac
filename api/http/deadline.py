"""How long a connection may wait for its client. All times are in seconds."""

from collections.abc import Callable
from typing import Final

#: How long a head may take; how long a kept connection may wait for the next request.
HEAD_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 75.0
#: A body may take this long, and one second more for each BODY_RATE bytes of it that have arrived.
BODY_SECONDS: Final = 30.0
BODY_RATE: Final = 16 * 1024
#: How long the rest of a body may take whose request is answered already.
REST_SECONDS: Final = 5.0
_NEVER: Final = float("inf")


class Deadline:
    """The deadline of one connection. `clock` returns the time of the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = _NEVER
        self._body_since = _NEVER
        #: The bytes of the body that have arrived.
        self.body_size = 0

    def begin_head(self) -> None:
        """Start the time of a head. An earlier deadline stays."""
        self._at = min(self._at, self._clock() + HEAD_SECONDS)

    def begin_body(self) -> None:
        """Start the full time of a body."""
        self.body_size, self._body_since = 0, self._clock()
        self._at = self._body_since + BODY_SECONDS

    def begin_rest(self) -> None:
        """Start the time of the rest of a body whose request is answered already."""
        self._at = self._clock() + REST_SECONDS

    def begin_idle(self) -> None:
        """Start the time between two requests."""
        self._at = self._clock() + IDLE_SECONDS

    def remove(self) -> None:
        """Wait without a deadline."""
        self._at = _NEVER

    def is_over(self, now: float) -> bool:
        return now > self._at

    def extend_body(self) -> None:
        """Add the time for the bytes of the body that have arrived."""
        self._at = self._body_since + BODY_SECONDS + self.body_size / BODY_RATE
