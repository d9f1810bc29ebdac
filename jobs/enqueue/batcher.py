"""The Batcher: writes the items of concurrent callers together, in one transaction.

If no other caller's thread is writing, a caller's thread writes its own item at once. Other threads, and all
coroutines, put their items into a queue. A thread of the Batcher takes everything in the queue and writes it
as one group. While groups have several items, all threads use the queue: one write of four costs less time.

Guarantees:

- An interrupt or a cancellation affects only its own caller. No caller writes another caller's item, because
  a caller's thread may be interrupted anywhere, by Ctrl-C or by a cancel of its job.
- A forked process starts empty: it has neither the parent's threads nor the items in the parent's queue.
- Waiting coroutines are bounded in number and in bytes. One too many gets Unavailable.
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
from callboard.jobs.watched_thread import survive

T = TypeVar("T")
R = TypeVar("R")
#: Writes a group. Returns one result or error per item, in order, and a function to call after the callers
#: have their results.
Work = Callable[[Sequence[T]], tuple[Sequence[R | BaseException], Callable[[], None]]]

#: The most items of one group.
_GROUP: Final = 1_000
#: How long `close` waits for the groups that are being written. Seconds.
_CLOSE_WITHIN: Final = 30.0
#: How often a waiting thread checks that the Batcher's threads run. Seconds.
_CHECK_EVERY: Final = 0.5
#: How long a single enqueue waits for another transaction that holds its unique key.
LOCK_WAIT: Final = timedelta(seconds=2)
#: How long a group waits for such a transaction, and how long its halves wait after the group timed out.
_GROUP_LOCK_WAIT: Final = timedelta(seconds=1)
_PART_LOCK_WAIT: Final = timedelta(milliseconds=100)


class _Call(Generic[T, R]):
    """An item of a thread, and its result. The thread waits for `done`, which it has locked."""

    __slots__ = ("done", "item", "result")

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | BaseException | None = None
        self.done = Lock()
        self.done.acquire()


class _Task(Generic[T]):
    """An item of a coroutine, which waits for `future`."""

    __slots__ = ("future", "item")

    def __init__(self, item: T, future: "asyncio.Future[Any]") -> None:
        self.item = item
        self.future = future


class _Tasks:
    """An entry of the queue that stands for everything that coroutines wait for."""


_TASKS: Final = _Tasks()


class Batcher(Generic[T, R]):
    """Groups the items of concurrent callers.

    name:         what the items are, for the error message of a refused caller.
    threads:      how many groups the Batcher writes at the same time. A caller's thread may write one more.
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
        #: One `_TASKS` in the queue stands for all of these: they wake one thread and are one group.
        self._tasks: list[_Task[T]] = []
        #: The number of running threads. Each thread counts itself.
        self._serving = 0
        self._ended = 0
        self._waiting: SimpleQueue[_Call[T, R] | _Tasks | None] = SimpleQueue()
        self._waiting_bytes = 0
        #: The number of items in the last group.
        self._last_group = 0
        self._closed = False

    def run(self, item: T) -> R:
        """Write an item from a thread; returns its result, or raises its error."""
        if self._last_group > 1 or not self._alone.acquire(blocking=False):
            return _result(self._leave_to_batcher(item))
        try:
            [result], rest = self._work([item])
        finally:
            self._alone.release()
        rest()
        return _result(result)

    async def run_async(self, item: T, *, size: int) -> R:
        """Write an item from a coroutine; returns its result, or raises its error.

        size: the size of the item in bytes. Raises Unavailable when the queue is full, or after `close`.
        """
        task = _Task(item, asyncio.get_running_loop().create_future())
        with self._counting:
            if self._closed:
                raise Unavailable("this server is shutting down; try again")
            waiting = len(self._tasks)
            if waiting and (waiting >= self._most_waiting or self._waiting_bytes + size > self._most_bytes):
                raise Unavailable(f"too many {self._name} wait to be written; try again")
            self._waiting_bytes += size
            self._tasks.append(task)
            if not waiting:
                self._waiting.put(_TASKS)
        self._make_sure_of_threads()
        result: R = await task.future
        return result

    def close(self) -> None:
        """Refuse coroutines from now on, write the items in the queue, and end the threads.

        A later `run` starts another thread.
        """
        with self._counting:
            self._closed = True
            serving = self._serving
            # Only these are waited for: a thread that comes during the close may start another.
            ended_then = self._ended + serving
        for _ in range(serving):
            self._waiting.put(None)
        deadline = SYSTEM.monotonic() + _CLOSE_WITHIN
        while self._ended < ended_then and SYSTEM.monotonic() < deadline:
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
            # `threading` is not used: its `start` fails if the calling thread is interrupted meanwhile. An
            # interrupt may also end the new thread while it starts. The next check then starts another.
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
                entries = self._group(first)
                for start in range(0, len(entries), _GROUP):
                    self._write(entries[start : start + _GROUP])
        finally:
            if counted:
                with self._counting:
                    self._serving -= 1
                    self._ended += 1

    def _group(self, entry: "_Call[T, R] | _Tasks | None") -> list[_Call[T, R] | _Task[T]]:
        """Return what waits. entry: the first entry of the queue."""
        group: list[_Call[T, R] | _Task[T]] = []
        with suppress(Empty):
            while entry is not None:
                if isinstance(entry, _Tasks):
                    with self._counting:
                        tasks, self._tasks = self._tasks, []
                        self._waiting_bytes = 0
                    group += tasks
                else:
                    group.append(entry)
                if len(group) >= _GROUP:
                    return group
                entry = self._waiting.get_nowait()
            # The None that ends a thread must be the last entry of the queue.
            self._waiting.put(None)
        return group

    def _write(self, group: Sequence[_Call[T, R] | _Task[T]]) -> None:
        results: Sequence[R | BaseException]
        rest: Callable[[], None] | None = None
        self._last_group = len(group)
        try:
            results, rest = self._work([one.item for one in group])
        except BaseException as error:  # noqa: BLE001 - every caller gets it
            results = [error] * len(group)
        tasks: dict[asyncio.AbstractEventLoop, list[tuple[_Task[T], R | BaseException]]] = {}
        for one, result in zip(group, results, strict=True):
            if isinstance(one, _Call):
                one.result = result
                one.done.release()
            else:
                tasks.setdefault(one.future.get_loop(), []).append((one, result))
        for loop, pairs in tasks.items():
            with suppress(RuntimeError):  # a closed loop has no waiting coroutine
                loop.call_soon_threadsafe(_resolve, pairs)
        if rest is not None:
            survive("callboard-batcher", rest)


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
    """Write the items. Return one result per item, in order: the value from `write`, or the item's error.

    write: writes a group in one transaction and returns one result per item, or raises an error and writes
           nothing. Its second argument is how long it may wait for a lock.

    A group that cannot be written is halved until the item at fault is alone. In an outage all get it.
    """
    return _write_or_halve(items, write, _GROUP_LOCK_WAIT)


def _write_or_halve(
    items: Sequence[T], write: Callable[[Sequence[T], timedelta], Sequence[R]], lock_wait: timedelta
) -> list[R | Exception]:
    if not items:
        return []
    failure: Exception
    try:
        return list(write(items, lock_wait))
    except Busy as error:
        # Another open transaction holds the key of one of the items. The halves wait less, so that the other
        # items do not wait the full time again.
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
