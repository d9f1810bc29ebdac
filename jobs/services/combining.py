"""Combining: of callers that come at the same time, one does the work of all, in one transaction."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

from jobs.errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")


class _Call(Generic[T, R]):
    """What a caller wants done, and what came of it. Its caller waits until it is woken: to hear that, or to lead."""

    __slots__ = ("item", "outcome", "woken")

    def __init__(self, item: T) -> None:
        self.item = item
        self.outcome: R | Exception | None = None
        self.woken = Lock()
        self.woken.acquire()


class Combining(Generic[T, R]):
    """A caller who is alone does its work at once; whoever comes meanwhile is done together with the others who did.

    work: says of each of a group, in order, what came of it (an error is for its own caller to hear), and what is left to
    do that no other caller need wait for. at_once: how many groups are worked on: while one waits for the disk, another
    does what came meanwhile.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], tuple[Sequence[R | Exception], Callable[[], None]]],
        *,
        at_once: int = 2,
    ) -> None:
        self._work = work
        self._at_once = at_once
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changing = Lock()
        self._waiting: deque[_Call[T, R]] = deque()
        #: Who does the work of all that wait, or is about to: a leader that has not begun takes whoever waits by then.
        self._leading: set[_Call[T, R]] = set()

    def run(self, item: T) -> R:
        """What came of it; raises its error."""
        if self._process != os.getpid():
            # A copy of the process: whoever was at work there when it was made is not here to end it.
            self._begin()
        call: _Call[T, R] = _Call(item)
        rest = None
        try:
            with self._changing:
                self._waiting.append(call)
                if len(self._leading) < self._at_once:
                    self._leading.add(call)
            if call in self._leading:
                rest = self._lead(call)
            while call.outcome is None:
                call.woken.acquire()
                if call in self._leading and call.outcome is None:
                    rest = self._lead(call)
        finally:
            self._leave(call)
        if rest is not None:
            rest()
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call.outcome

    def _lead(self, call: _Call[T, R]) -> Callable[[], None] | None:
        """Do the work of all that wait, this one's too; None when another leader has taken this one with it."""
        with self._changing:
            if call not in self._waiting:
                return None
            calls = list(self._waiting)
            self._waiting.clear()
        interrupted = Unavailable("interrupted while it was written together with others; try again")
        outcomes: Sequence[R | Exception] = [interrupted] * len(calls)
        try:
            outcomes, rest = self._work([call.item for call in calls])
        finally:
            for each, outcome in zip(calls, outcomes, strict=True):
                each.outcome = outcome
                if each.woken.locked():
                    each.woken.release()
        return rest

    def _leave(self, call: _Call[T, R]) -> None:
        """Wait no more and lead no more; whoever has waited longest leads next."""
        with self._changing:
            if call.outcome is None and call in self._waiting:
                self._waiting.remove(call)
            if call not in self._leading:
                return
            self._leading.remove(call)
            if self._waiting and self._waiting[0] not in self._leading:
                self._leading.add(self._waiting[0])
                self._waiting[0].woken.release()
