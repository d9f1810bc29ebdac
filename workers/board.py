"""The board between a child and its supervisor: a pulse, and which jobs have started. Survives the child.

It lies in shared memory, so that the supervisor can read it after a kill -9: what stands on it then are the
jobs that may have caused the death, and nothing else is blamed.
"""

import ctypes
from collections import deque
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any, Final
from uuid import UUID

_ID_BYTES: Final = 16
_EMPTY: Final = bytes(_ID_BYTES)

#: Puts a job on the board and returns what takes it off again.
PutOnBoard = Callable[[UUID], Callable[[], None]]


class Board:
    """`size`: how many jobs may run at once in the child. Written by the child, read by the supervisor."""

    def __init__(self, size: int) -> None:
        context = get_context("spawn")
        self._pulse: Any = context.RawValue(ctypes.c_uint64, 0)
        self._ids: Any = context.RawArray(ctypes.c_char, size * _ID_BYTES)
        self._size = size

    @property
    def pulse(self) -> int:
        """Grows while the child is alive and running; 0 until it is ready."""
        return int(self._pulse.value)

    def beat(self) -> None:
        self._pulse.value += 1

    def started(self) -> list[UUID]:
        """The jobs that have begun and not ended."""
        raw = bytes(self._ids.raw)
        cells = (raw[start : start + _ID_BYTES] for start in range(0, len(raw), _ID_BYTES))
        return [UUID(bytes=cell) for cell in cells if cell != _EMPTY]

    def writer(self) -> PutOnBoard:
        """In the child: a function that puts a job on the board and returns what takes it off again."""
        free = deque(range(self._size))
        view = memoryview(self._ids).cast("B")

        def put(job: UUID) -> Callable[[], None]:
            place = free.popleft() * _ID_BYTES
            view[place : place + _ID_BYTES] = job.bytes

            def take_off() -> None:
                view[place : place + _ID_BYTES] = _EMPTY
                free.append(place // _ID_BYTES)

            return take_off

        return put
