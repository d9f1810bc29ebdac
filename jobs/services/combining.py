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
    """What a caller wants done, and what came of it."""

    __slots__ = ("item", "outcome")

    def __init__(self, item: T) -> None:
        self.item = item
        self.outcome: R | Exception | None = None


class Combining(Generic[T, R]):
    """A caller that is alone does its work at once; whoever comes meanwhile is done together with the others who did.

    work: says of each of a group, in order, what came of it; an error is for its own caller to hear.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._work = work
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._waiting: deque[_Call[T, R]] = deque()
        self._busy = Lock()

    def run(self, item: T) -> R:
        """What came of it; raises its error."""
        if self._process != os.getpid():
            # A copy of the process: whoever was at work there when it was made is not here to end it.
            self._begin()
        call: _Call[T, R] = _Call(item)
        self._waiting.append(call)
        with self._busy:
            if call.outcome is None:
                self._run_all()
        if call.outcome is None or isinstance(call.outcome, Exception):
            raise call.outcome or Unavailable("the caller who did this one's work, too, was interrupted")
        return call.outcome

    def _run_all(self) -> None:
        calls = [self._waiting.popleft() for _ in range(len(self._waiting))]
        interrupted = Unavailable("interrupted while it was written together with others; try again")
        outcomes: Sequence[R | Exception] = [interrupted] * len(calls)
        try:
            outcomes = self._work([call.item for call in calls])
        finally:
            for call, outcome in zip(calls, outcomes, strict=True):
                call.outcome = outcome
