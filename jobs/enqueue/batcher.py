"""The Batcher: what several callers write at the same time is written together, in one transaction.

A thread that comes alone does its own work at once. Whoever comes meanwhile (threads and coroutines alike)
waits for a thread of the Batcher, which takes all that waits in one go.

Guarantees:

- An interrupt or a cancellation hits its own caller only. No caller does another caller's work, because its
thread may be
  interrupted anywhere: by Ctrl-C, or because the job that it runs is cancelled.
- A forked process starts clean: it has neither the parent's threads nor what waited for them.
- What waits is bounded, in number and in bytes; beyond that a coroutine gets Unavailable. Threads bound
themselves: each
  waits with one item.
"""

import asyncio
import os
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Lock
from time import sleep
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from callboard.jobs.errors import Busy, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM

T = TypeVar("T")
R = TypeVar("R")
#: Writes a group. Returns one result or error per item, in order, and what is left to do once the callers
#: know.
Work = Callable[[Sequence[T]], tuple[Sequence[R | BaseException], Callable[[], None]]]

#: The most items of one group.
_GROUP: Final = 1_000
#: How long `close` waits for what is being written. Seconds.
_CLOSE_WITHIN: Final = 30.0
#: How often a waiting thread makes sure that a thread of the Batcher is there. Seconds.
_CHECK_EVERY: Final = 0.5

#: How long a single enqueue waits for another transaction that holds its unique key.
LOCK_WAIT: Final = timedelta(seconds=2)
#: How long a group waits for it, and how long its parts wait when the group was held up.
_GROUP_LOCK_WAIT: Final = timedelta(seconds=1)
_PART_LOCK_WAIT: Final = timedelta(milliseconds=100)


class _Call(Generic[T, R]):
    """An item of a thread, and its result. The thread waits for `done`, which it has locked."""

    __slots__ = ("done", "item", "result")
    size = 0

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | BaseException | None = None
        self.done = Lock()
        self.done.acquire()


class _Task(Generic[T]):
    """An item of a coroutine, which waits for `future`."""

    __slots__ = ("future", "item", "size")

    def __init__(self, item: T, size: int, future: "asyncio.Future[Any]") -> None:
        self.item = item
        self.size = size
        self.future = future


class Batcher(Generic[T, R]):
    """Groups the items of concurrent callers.

    name:         what the items are, for the error of a caller that is refused.
    threads:      how many groups are written at the same time, besides a thread that came alone.
    most_waiting: how many items may wait. most_bytes: how many bytes of them.
    """

    def __init__(
        self,
        name: str,
        work: Work[T, R],
        *,
        threads: int = 1,
        most_waiting: int = 10_000,
        most_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._name = name
        self._work = work
        self._threads = threads
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self._start_clean()
        _batchers.add(self)

    def _start_clean(self) -> None:
        self._alone = Lock()
        self._counting = Lock()
        #: Threads of the Batcher that are there; each counts itself.
        self._serving = 0
        self._waiting: SimpleQueue[_Call[T, R] | _Task[T] | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._closed = False

    def run(self, item: T) -> R:
        """Write an item from a thread; returns its result, or raises its error."""
        if not self._alone.acquire(blocking=False):
            return _result(self._leave_to_batcher(item))
        try:
            [result], rest = self._work([item])
        finally:
            self._alone.release()
        rest()
        return _result(result)

    async def run_async(self, item: T, *, size: int) -> R:
        """Write an item from a coroutine; returns its result, or raises its error.

        size: the bytes that the item holds. Raises Unavailable when too much waits, or after `close`.
        """
        task = _Task(item, size, asyncio.get_running_loop().create_future())
        with self._counting:
            if self._closed:
                raise Unavailable("this server is shutting down; try again")
            waiting = self._waiting.qsize()
            if waiting and (waiting >= self._most_waiting or self._waiting_bytes + size > self._most_bytes):
                raise Unavailable(f"too many {self._name} wait to be written; try again")
            self._waiting_bytes += size
            self._waiting.put(task)
        self._make_sure_of_threads()
        result: R = await task.future
        return result

    def close(self) -> None:
        """Refuse coroutines from now on, write what waits, and end the threads.

        A later `run` starts another thread.
        """
        with self._counting:
            self._closed = True
            serving = self._serving
        for _ in range(serving):
            self._waiting.put(None)
        deadline = SYSTEM.monotonic() + _CLOSE_WITHIN
        while self._serving and SYSTEM.monotonic() < deadline:
            sleep(0.005)

    def _leave_to_batcher(self, item: T) -> R | BaseException | None:
        call: _Call[T, R] = _Call(item)
        self._waiting.put(call)
        while True:
            self._make_sure_of_threads()
            if call.done.acquire(timeout=_CHECK_EVERY):
                return call.result

    def _make_sure_of_threads(self) -> None:
        for _ in range(self._threads - self._serving):
            # Not by way of `threading`: its start does not survive an interrupt of the thread that starts. An
            # interrupt that is meant for this thread may strike the new one as it is born; then the next look
            # finds it missing.
            start_new_thread(self._serve, ())

    def _serve(self) -> None:
        counted = False
        try:
            with self._counting:
                if self._serving >= self._threads:
                    return
                self._serving += 1
                counted = True
            while (first := self._waiting.get()) is not None:
                self._write([first, *self._more()])
        finally:
            if counted:
                with self._counting:
                    self._serving -= 1

    def _more(self) -> list[_Call[T, R] | _Task[T]]:
        more: list[_Call[T, R] | _Task[T]] = []
        with suppress(Empty):
            while len(more) < _GROUP - 1:
                call = self._waiting.get_nowait()
                if call is None:
                    # The end comes after these.
                    self._waiting.put(None)
                    break
                more.append(call)
        return more

    def _write(self, group: Sequence[_Call[T, R] | _Task[T]]) -> None:
        held = sum(one.size for one in group)
        if held:
            with self._counting:
                self._waiting_bytes -= held
        results: Sequence[R | BaseException]
        rest: Callable[[], None] | None = None
        try:
            results, rest = self._work([one.item for one in group])
        except BaseException as error:  # noqa: BLE001 - it is the answer to everybody in the group
            results = [error] * len(group)
        tasks: dict[asyncio.AbstractEventLoop, list[tuple[_Task[T], R | BaseException]]] = {}
        for one, result in zip(group, results, strict=True):
            if isinstance(one, _Call):
                one.result = result
                one.done.release()
            else:
                tasks.setdefault(one.future.get_loop(), []).append((one, result))
        for loop, pairs in tasks.items():
            # A closed loop has no coroutine left that waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, pairs)
        if rest is not None:
            rest()


def _resolve(pairs: Sequence[tuple[_Task[Any], object]]) -> None:
    for task, result in pairs:
        if task.future.done():
            continue
        if isinstance(result, BaseException):
            task.future.set_exception(result)
        else:
            task.future.set_result(result)


def _result(result: R | BaseException | None) -> R:
    if isinstance(result, BaseException):
        raise result
    return result  # type: ignore[return-value]


def isolate_failures(
    items: Sequence[T], write: Callable[[Sequence[T], timedelta], Sequence[R]]
) -> list[R | Exception]:
    """Write the items, and return one result per item, in order: what `write` returned for it, or the error
    it caused.

    write: writes a group in one transaction and returns one result per item, or raises and has written
           nothing. Its second
    argument is how long it may wait for a lock. A group that cannot be written is halved until the item that
    causes the error stands alone; an outage is everybody's error at once.
    """
    return _write_or_halve(items, write, _GROUP_LOCK_WAIT)


def _write_or_halve(
    items: Sequence[T],
    write: Callable[[Sequence[T], timedelta], Sequence[R]],
    lock_wait: timedelta,
) -> list[R | Exception]:
    if not items:
        return []
    failure: Exception
    try:
        return list(write(items, lock_wait))
    except Busy as error:
        # Somebody's open transaction holds a key of one of them: the others must not wait for it again and
        # again.
        failure, lock_wait = error, _PART_LOCK_WAIT
    except Unavailable as error:
        return [error] * len(items)
    except Exception as error:  # noqa: BLE001 - the item that causes it gets it as its result
        failure = error
    if len(items) == 1:
        return [failure]
    middle = len(items) // 2
    return _write_or_halve(items[:middle], write, lock_wait) + _write_or_halve(
        items[middle:], write, lock_wait
    )


#: Every Batcher of this process; a forked process has a copy of the set.
_batchers: Final[WeakSet[Batcher[Any, Any]]] = WeakSet()


def _start_all_clean() -> None:
    for batcher in _batchers:
        batcher._start_clean()  # noqa: SLF001


os.register_at_fork(after_in_child=_start_all_clean)
