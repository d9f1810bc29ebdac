"""The mixture of a queue: what part of its jobs is sync, and what part async, as the last claims had them."""

from collections.abc import Collection, Mapping
from typing import Final

#: A kind that was rarer than this is not reckoned with.
_RARE: Final = 1 / 64


class Mixture:
    """Which kind a token's job is shows only once it is claimed; what came last says what will come next.

    kinds: those that the queue's job definitions have. Until something has been claimed, all may be of any of them.
    """

    def __init__(self, kinds: Collection[bool]) -> None:
        self._parts = {kind: 1.0 if kind in kinds else 0.0 for kind in (False, True)}

    @property
    def has_sync(self) -> bool:
        return self._parts[False] > 0

    def room(self, free: Mapping[bool, int]) -> int:
        """How many of its jobs there is room for, when so many slots of each kind are free (True: async)."""
        return min(int(free[kind] / part) for kind, part in self._parts.items() if part)

    def saw(self, sync: int, awaited: int) -> None:
        """So many of each kind have been claimed."""
        for kind, count in ((False, sync), (True, awaited)):
            part = (self._parts[kind] + count / (sync + awaited)) / 2
            self._parts[kind] = part if part > _RARE else 0.0
