"""The board between a child and its supervisor: a pulse, which jobs have begun, and until when they may take. Survives the child.

It lies in shared memory, so that the supervisor can read it after a kill -9: what stands on it then are the
jobs that may have caused the death, and nothing else is blamed. Deadlines are monotonic seconds, which are the same
in every process of a machine.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from typing import Any, Final
from uuid import UUID

_ID_BYTES: Final = 16
_EMPTY: Final = bytes(_ID_BYTES)
_NEVER: Final = 0.0
#: Forced cancellations that have a deadline at once; the rest have theirs when these have ended.
_FORCED: Final = 16

#: Puts a job on the board, with its hard deadline and the limit that this comes from, in seconds (0: none), and
#: returns what takes it off again.
PutOnBoard = Callable[[UUID, float, float], Callable[[], None]]


class Board:
    """`size`: how many jobs may run at once in the child. Written by the child, read by the supervisor."""

    def __init__(self, size: int) -> None:
        context = get_context("spawn")
        self._pulse: Any = context.RawValue(ctypes.c_uint64, 0)
        self._ids: Any = context.RawArray(ctypes.c_char, size * _ID_BYTES)
        self._deadlines: Any = context.RawArray(ctypes.c_double, size)
        self._limits: Any = context.RawArray(ctypes.c_double, size)
        self._forced_ids: Any = context.RawArray(ctypes.c_char, _FORCED * _ID_BYTES)
        self._forced_deadlines: Any = context.RawArray(ctypes.c_double, _FORCED)
        self._size = size

    @property
    def pulse(self) -> int:
        """Grows while the child is alive and running; 0 until it is ready."""
        return int(self._pulse.value)

    def beat(self) -> None:
        self._pulse.value += 1

    def started(self) -> list[UUID]:
        """The jobs that have begun and not ended."""
        return [UUID(bytes=cell) for cell in _cells(self._ids) if cell != _EMPTY]

    def overdue(self, now: float) -> dict[UUID, float]:
        """The jobs that run beyond their hard deadline, and the limit of each in seconds; 0 when it is a forced cancel's.

        A cell may change hands while it is read: only what reads the same twice counts.
        """
        found: dict[UUID, float] = {}
        for place, deadline in enumerate(memoryview(self._deadlines).cast("B").cast("d")):
            if _NEVER < deadline < now:
                cell = self._cell(place)
                if cell != _EMPTY and self._deadlines[place] == deadline:
                    found[UUID(bytes=cell)] = self._limits[place]
        forced = [
            cell
            for cell, deadline in zip(_cells(self._forced_ids), list(self._forced_deadlines), strict=True)
            if cell != _EMPTY and _NEVER < deadline < now
        ]
        if forced:
            found |= {job: 0.0 for job in self.started() if job.bytes in forced}
        return found

    def force(self, demands: Iterable[tuple[UUID, float]]) -> None:
        """In the child: the running jobs that must end by a time because somebody insists; replaces what was said before."""
        first = sorted(demands, key=lambda demand: demand[1])[:_FORCED]
        for place in range(_FORCED):
            self._forced_deadlines[place] = first[place][1] if place < len(first) else _NEVER
        whole = b"".join(job.bytes for job, _ in first)
        memoryview(self._forced_ids).cast("B")[:] = whole.ljust(_FORCED * _ID_BYTES, b"\0")

    def writer(self) -> PutOnBoard:
        """In the child: a function that puts a job on the board and returns what takes it off again."""
        free = deque(range(self._size))
        view = memoryview(self._ids).cast("B")
        deadlines, limits = self._deadlines, self._limits

        def put(job: UUID, deadline: float, limit: float) -> Callable[[], None]:
            cell = free.popleft()
            place = cell * _ID_BYTES
            # Most jobs have no deadline, and pay for none.
            if deadline:
                limits[cell] = limit
                deadlines[cell] = deadline
            view[place : place + _ID_BYTES] = job.bytes

            def take_off() -> None:
                view[place : place + _ID_BYTES] = _EMPTY
                if deadline:
                    deadlines[cell] = _NEVER
                free.append(cell)

            return take_off

        return put

    def _cell(self, place: int) -> bytes:
        return bytes(self._ids[place * _ID_BYTES : (place + 1) * _ID_BYTES])


def _cells(ids: Any) -> list[bytes]:
    raw = bytes(ids.raw)
    return [raw[start : start + _ID_BYTES] for start in range(0, len(raw), _ID_BYTES)]
