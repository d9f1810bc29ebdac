"""Turns of threads whose unique keys may be held: while they wait, they must not use up the pool."""

from datetime import timedelta
from time import sleep
from typing import Final
from weakref import WeakSet

from callboard.jobs.errors import Busy
from callboard.jobs.model.basics.clock import SYSTEM

_LOOK_EVERY: Final = 0.005


class Turn:
    """A thread's turn. It ends when the thread drops it, also when an interrupt hits the thread anywhere."""


class KeyTurns:
    """Lets a few threads at a time write jobs with unique keys."""

    def __init__(self, count: int) -> None:
        self._count = count
        # A lock or a semaphore could stay taken for ever after an interrupt; a weak reference cannot.
        self._taken: WeakSet[Turn] = WeakSet()

    def take(self, longest: timedelta) -> Turn:
        """Wait for a turn. It lasts while the caller keeps the result. Raises Busy after `longest`."""
        deadline = SYSTEM.monotonic() + longest.total_seconds()
        while len(self._taken) >= self._count:
            if SYSTEM.monotonic() > deadline:
                raise Busy("too many enqueues wait for unique keys that are held; try again")
            sleep(_LOOK_EVERY)
        turn = Turn()
        self._taken.add(turn)
        return turn
