"""Turns of threads whose unique keys may be held: while they wait, they must not use up the pool."""

from datetime import timedelta
from time import sleep
from typing import Final
from weakref import WeakSet

from callboard.jobs.errors import Busy
from callboard.jobs.model.basics.clock import SYSTEM

_LOOK_EVERY: Final = 0.005


class KeyTurn:
    """A thread's turn."""


class KeyTurns:
    """Lets a few threads at a time write jobs with unique keys."""

    def __init__(self, count: int) -> None:
        self._count = count
        # A thread that is interrupted may not end its turn. A weak reference to it ends by itself.
        self._taken: WeakSet[KeyTurn] = WeakSet()

    def take(self, longest: timedelta) -> KeyTurn:
        """Wait for a turn, which the caller ends. Raises Busy after `longest`."""
        deadline = SYSTEM.monotonic() + longest.total_seconds()
        while len(self._taken) >= self._count:
            if SYSTEM.monotonic() > deadline:
                raise Busy("too many enqueues wait for unique keys that are held; try again")
            sleep(_LOOK_EVERY)
        turn = KeyTurn()
        self._taken.add(turn)
        return turn

    def end(self, turn: KeyTurn) -> None:
        """End a turn."""
        self._taken.discard(turn)
