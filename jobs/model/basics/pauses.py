"""Growing pauses between the tries of things that do not work, such as rows that cannot be read."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from callboard.jobs.model.basics.clock import Clock

K = TypeVar("K", bound=Hashable)

#: The first and the longest pause. Each pause is twice as long as the one before. Seconds.
_FIRST: Final = 1.0
LONGEST_PAUSE: Final = 60.0


@dataclass(slots=True)
class _Pause:
    length: float
    until: float


class Pauses(Generic[K]):
    """What failed, and until when it is not tried again. Called from one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pauses: dict[K, _Pause] = {}

    def failed(self, key: K) -> None:
        """Record that a try failed. The next pause of this key begins now."""
        old = self._pauses.get(key)
        length = _FIRST if old is None else min(old.length * 2, LONGEST_PAUSE)
        self._pauses[key] = _Pause(length, self._clock.monotonic() + length)

    def worked(self, key: K) -> None:
        """Record that a try succeeded."""
        self._pauses.pop(key, None)

    def waiting(self) -> list[K]:
        """Return the keys that are not to be tried now. A key that was not tried for long is forgotten."""
        now = self._clock.monotonic()
        self._pauses = {
            key: pause for key, pause in self._pauses.items() if now - pause.until < LONGEST_PAUSE
        }
        return [key for key, pause in self._pauses.items() if now < pause.until]
