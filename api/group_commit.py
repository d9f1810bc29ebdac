"""Group commit: what arrives together is written together, and each waits for it to be committed."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Thread
from typing import Any, Final, Generic, NamedTuple, TypeVar

from callboard.jobs.errors import Unavailable

#: Of what waits, this much is written in one transaction at most.
_MOST_AT_ONCE: Final = 1_000

Asked = TypeVar("Asked")
Told = TypeVar("Told")
Write = Callable[[Sequence[Asked]], Sequence[Told | Exception]]


class _Waiting(NamedTuple):
    asked: Any
    size: int
    future: "asyncio.Future[Any]"


class GroupCommit(Generic[Asked, Told]):
    """Threads write whatever waits, as often as they can: while one waits for the disk, the other does what came meanwhile.

    write: takes a group, and says of each, in order, what became of it once that is committed; an error is for its own
    request to hear. most_waiting, most_bytes: how many requests, and bytes of them, may wait; what comes on top is refused.
    at_once: how many groups are written at the same time.
    """

    def __init__(
        self,
        name: str,
        write: Write[Asked, Told],
        *,
        most_waiting: int = 10_000,
        most_bytes: int = 64 * 1024 * 1024,
        at_once: int = 2,
    ) -> None:
        self._name = name
        self._write = write
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self._at_once = at_once
        self._changed = Condition()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._threads: list[Thread] = []
        self._closing = False

    async def commit(self, asked: Asked, *, size: int) -> Told:
        """What became of it, once that is committed. size: bytes that it holds.

        Raises the error that is its own; Unavailable when too much waits already.
        """
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closing:
                raise Unavailable("this server is shutting down; try again")
            full = len(self._waiting) >= self._most_waiting or self._bytes + size > self._most_bytes
            if full and self._waiting:
                raise Unavailable(f"too many {self._name} wait to be written; try again")
            if not self._threads:
                self._start()
            self._waiting.append(_Waiting(asked, size, future))
            self._bytes += size
            if len(self._waiting) == 1:
                self._changed.notify()
        told: Told = await future
        return told

    def close(self) -> None:
        """Take no more, write what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        name = f"callboard-commits-{self._name}"
        self._threads = [Thread(target=self._run, name=name, daemon=True) for _ in range(self._at_once)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while group := self._next():
            try:
                told = self._write([one.asked for one in group])
            except Exception as error:  # noqa: BLE001 - nobody else is there to tell them
                told = [error for _ in group]
            _tell(group, told)

    def _next(self) -> list[_Waiting]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._bytes -= sum(one.size for one in group)
        return group


def _tell(group: Sequence[_Waiting], told: Sequence[object]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, object]]] = {}
    for pair in zip(group, told, strict=True):
        by_loop.setdefault(pair[0].future.get_loop(), []).append(pair)
    for loop, pairs in by_loop.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[_Waiting, object]]) -> None:
    for one, told in pairs:
        if one.future.done():
            continue
        if isinstance(told, Exception):
            one.future.set_exception(told)
        else:
            one.future.set_result(told)
