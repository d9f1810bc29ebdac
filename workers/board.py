"""The board between a worker child and its supervisor: a pulse, the jobs that have started, and their
deadlines.

The board is shared memory, so the supervisor can read it after a kill -9. The jobs on it then are the
possible causes of the death; no other job is blamed. Deadlines are monotonic seconds, which are the same in
all processes of a machine.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Collection, Iterable
from multiprocessing import get_context
from typing import Any, Final
from uuid import UUID

from callboard.workers.boot_report import BootReport

_ID_BYTES: Final = 16
_EMPTY: Final = bytes(_ID_BYTES)
_NEVER: Final = 0.0
#: This many forced cancels can have a deadline at the same time. Others get a deadline when these have ended.
_MAX_FORCED: Final = 16

#: Puts a job on the board and returns a function that takes it off. Arguments: the job's id, its hard
#: deadline, and the hard timeout that the deadline comes from, in seconds (0: none).
PutOnBoard = Callable[[UUID, float, float], Callable[[], None]]


class Board:
    """The child writes it, the supervisor reads it. `size`: how many jobs may run at once in the child."""

    def __init__(self, size: int) -> None:
        context = get_context("spawn")
        self._pulse: Any = context.RawValue(ctypes.c_uint64, 0)
        self._ids: Any = context.RawArray(ctypes.c_char, size * _ID_BYTES)
        self._deadlines: Any = context.RawArray(ctypes.c_double, size)
        self._limits: Any = context.RawArray(ctypes.c_double, size)
        self._forced_ids: Any = context.RawArray(ctypes.c_char, _MAX_FORCED * _ID_BYTES)
        self._forced_deadlines: Any = context.RawArray(ctypes.c_double, _MAX_FORCED)
        self._leaves_by: Any = context.RawValue(ctypes.c_double, _NEVER)
        self._worked: Any = context.RawValue(ctypes.c_bool, False)
        self._size = size
        #: How the start of the child went.
        self.boot = BootReport()

    @property
    def pulse(self) -> int:
        """Return a number that grows while the child runs; 0 until the child is ready."""
        return int(self._pulse.value)

    def beat(self) -> None:
        """In the child: increment the pulse."""
        self._pulse.value += 1

    @property
    def leaves_by(self) -> float:
        """Return when the child, which must be replaced, ends at the latest; 0 while it is fit."""
        return float(self._leaves_by.value)

    @property
    def worked(self) -> bool:
        """Return whether a child that must be replaced has run jobs before."""
        return bool(self._worked.value)

    def leave(self, reason: str, by: float, *, worked: bool) -> None:
        """In the child: say why it must be replaced, and when it ends at the latest."""
        self.boot.fail(reason)
        self._worked.value = worked
        self._leaves_by.value = by

    def started(self) -> list[UUID]:
        """Return the jobs that have started and not ended."""
        return [UUID(bytes=cell) for cell in _cells(self._ids) if cell != _EMPTY]

    def overdue(self, now: float) -> dict[UUID, float]:
        """Return the jobs that run beyond their hard deadline, each with its hard timeout in seconds.

        The timeout is 0 when the deadline comes from a forced cancel.
        """
        found: dict[UUID, float] = {}
        for place, deadline in enumerate(memoryview(self._deadlines).cast("B").cast("d")):
            if _NEVER < deadline < now:
                cell = self._cell(place)
                # The cell may get another job while it is read: the deadline must be the same before and
                # after.
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
        """In the child: set the running jobs whose cancel is forced, each with its deadline.

        Replaces the last list.
        """
        first = sorted(demands, key=lambda demand: demand[1])[:_MAX_FORCED]
        for place in range(_MAX_FORCED):
            self._forced_deadlines[place] = first[place][1] if place < len(first) else _NEVER
        ids = b"".join(job.bytes for job, _ in first)
        memoryview(self._forced_ids).cast("B")[:] = ids.ljust(_MAX_FORCED * _ID_BYTES, b"\0")

    def postpone(self, jobs: Collection[UUID], seconds: float) -> None:
        """In the child: move the hard deadlines of these jobs. They must not end meanwhile."""
        wanted = {job.bytes for job in jobs}
        for place, cell in enumerate(_cells(self._ids)) if wanted else ():
            if cell in wanted and self._deadlines[place]:
                self._deadlines[place] += seconds
                if self._cell(place) == _EMPTY:
                    self._deadlines[place] = _NEVER

    def writer(self) -> PutOnBoard:
        """In the child: return the function that puts jobs on the board."""
        free = deque(range(self._size))
        view = memoryview(self._ids).cast("B")
        deadlines, limits = self._deadlines, self._limits

        def put(job: UUID, deadline: float, limit: float) -> Callable[[], None]:
            cell = free.popleft()
            place = cell * _ID_BYTES
            # Most jobs have no deadline: they skip these writes.
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
