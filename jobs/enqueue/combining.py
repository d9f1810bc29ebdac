"""Combining: of callers that come at the same time, the work of most is done together, in one transaction."""

import os
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")
R = TypeVar("R")
#: Who waits makes sure so often that our thread is there. Seconds.
_LOOK_EVERY: Final = 0.5
#: Says of each of a group, in order, what came of it (an error is for its own caller to hear), and what is left to do that
#: no caller need wait for.
Work = Callable[[Sequence[T]], tuple[Sequence[R | BaseException], Callable[[], None]]]


class _Call(Generic[T, R]):
    """What a caller wants done, and what came of it; the caller waits for `done`, which it has locked."""

    __slots__ = ("done", "item", "outcome")

    def __init__(self, item: T) -> None:
        self.item = item
        self.outcome: R | BaseException | None = None
        self.done = Lock()
        self.done.acquire()


class Combining(Generic[T, R]):
    """A caller who is alone does its own work, at once. Whoever comes meanwhile leaves it to a thread of ours, which does
    what has come in one go.

    A caller does nobody's work but its own: its thread may be interrupted anywhere, by Ctrl-C or because the job that
    it runs is cancelled, and nobody else is to suffer for that.
    """

    def __init__(self, work: Work[T, R]) -> None:
        self._work = work
        self._begin()
        _combinings.add(self)

    def _begin(self) -> None:
        self._alone = Lock()
        self._starting = Lock()
        #: Whether our thread is there; it says so itself.
        self._serving = False
        self._waiting: SimpleQueue[_Call[T, R] | None] = SimpleQueue()

    def run(self, item: T) -> R:
        """What came of it; raises its error."""
        if not self._alone.acquire(blocking=False):
            return _answer(self._left_to_us(item))
        try:
            [outcome], rest = self._work([item])
        finally:
            self._alone.release()
        rest()
        return _answer(outcome)

    def close(self) -> None:
        """End our thread; a later call starts another."""
        if self._serving:
            self._waiting.put(None)

    def _left_to_us(self, item: T) -> R | BaseException | None:
        call: _Call[T, R] = _Call(item)
        self._waiting.put(call)
        while True:
            if not self._serving:
                # Not by way of `threading`: its hand-over of a start does not survive an interrupt. What is meant for this
                # thread may strike the new one as it is born; then the next look finds none.
                start_new_thread(self._serve, ())
            if call.done.acquire(timeout=_LOOK_EVERY):
                return call.outcome

    def _serve(self) -> None:
        with self._starting:
            if self._serving:
                return
            self._serving = True
        try:
            while (call := self._waiting.get()) is not None:
                self._do([call, *self._more()])
        finally:
            self._serving = False

    def _do(self, calls: Sequence[_Call[T, R]]) -> None:
        outcomes: Sequence[R | BaseException]
        rest: Callable[[], None] | None = None
        try:
            outcomes, rest = self._work([call.item for call in calls])
        except BaseException as error:  # noqa: BLE001 - nobody else is there to tell them
            outcomes = [error] * len(calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            call.outcome = outcome
            call.done.release()
        if rest is not None:
            rest()

    def _more(self) -> list[_Call[T, R]]:
        more: list[_Call[T, R]] = []
        try:
            while (call := self._waiting.get_nowait()) is not None:
                more.append(call)
        except Empty:
            return more
        # The end comes after these.
        self._waiting.put(None)
        return more


def _answer(outcome: R | BaseException | None) -> R:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome  # type: ignore[return-value]


#: Of this process, and of each that is forked from it.
_combinings: Final[WeakSet[Combining[Any, Any]]] = WeakSet()


def _begin_all() -> None:
    """In a process that was forked: whoever was at work when it was made is not here to end it."""
    for combining in _combinings:
        combining._begin()  # noqa: SLF001


os.register_at_fork(after_in_child=_begin_all)
