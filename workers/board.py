"""The board between a worker child and its supervisor: a pulse, the jobs that have begun, requests to stop.

The board is shared memory, so the supervisor can read it after a kill -9. The jobs on it then are the
possible causes of the death; no other job is blamed. A job stays on it until its end is committed: a thread
that it left behind, or the code of its result, may crash the process after the job's function. Deadlines are
monotonic seconds, which are the same in all processes of a machine.
"""

import ctypes
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from multiprocessing import get_context
from struct import Struct
from typing import Any, Final
from uuid import UUID

from callboard.workers.boot_report import BootReport

_ID_BYTES: Final = 16
#: A cell has the id of a job, and a byte that is not 0 when the job's function has ended.
_CELL_BYTES: Final = _ID_BYTES + 1
_EMPTY: Final = bytes(_CELL_BYTES)
_NO_ID: Final = bytes(_ID_BYTES)
_DOUBLE: Final = Struct("d")
#: So many entries of the board are skipped at once when all of them are empty.
_BLOCK: Final = 64
_NEVER: Final = 0.0
#: This many forced cancels can have a deadline at the same time. Others get a deadline when these have ended.
_MAX_FORCED: Final = 16


class Board:
    """The child writes it, the supervisor reads it.

    at_once:   how many jobs may run at once in the child.
    unwritten: how many more have ended, and stay on the board until their ends are committed. Without room,
               a job that ends is taken off at once.
    """

    def __init__(self, at_once: int, unwritten: int = 0) -> None:
        context, size = get_context("spawn"), at_once + unwritten
        self._pulse: Any = context.RawValue(ctypes.c_uint64, 0)
        self._ids: Any = context.RawArray(ctypes.c_char, size * _CELL_BYTES)
        self._deadlines: Any = context.RawArray(ctypes.c_double, size)
        self._limits: Any = context.RawArray(ctypes.c_double, size)
        self._forced_ids: Any = context.RawArray(ctypes.c_char, _MAX_FORCED * _ID_BYTES)
        self._forced_deadlines: Any = context.RawArray(ctypes.c_double, _MAX_FORCED)
        self._leaves_by: Any = context.RawValue(ctypes.c_double, _NEVER)
        self._worked: Any = context.RawValue(ctypes.c_bool, False)
        self._stops: Any = context.RawValue(ctypes.c_uint8, 0)
        self._at_once = at_once
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

    @property
    def stops(self) -> int:
        """Return how often the supervisor told the child to stop; the second time shortens the first."""
        return int(self._stops.value)

    def tell_stop(self) -> None:
        """Tell the child to stop. A signal wakes it."""
        self._stops.value = min(self.stops + 1, 2)

    def started(self) -> list[UUID]:
        """Return the jobs that have started and not ended."""
        return [_job(cell) for cell in self._used() if not cell[_ID_BYTES]]

    def begun(self) -> list[UUID]:
        """Return the jobs that have started and whose ends are not committed."""
        return [_job(cell) for cell in self._used()]

    def overdue(self, now: float) -> dict[UUID, float]:
        """Return the jobs that run beyond their hard deadline, each with its hard timeout in seconds.

        The timeout is 0 when the deadline comes from a forced cancel.
        """
        found: dict[UUID, float] = {}
        for place, raw in _not_empty(bytes(self._deadlines), _DOUBLE.size):
            (deadline,) = _DOUBLE.unpack(raw)
            if _NEVER < deadline < now:
                cell = self._cell(place)
                # The cell may get another job while it is read: the deadline must be the same before and
                # after.
                if cell != _EMPTY and self._deadlines[place] == deadline:
                    found[_job(cell)] = self._limits[place]
        forced = [
            job
            for job, deadline in zip(
                _cut(self._forced_ids, _ID_BYTES), list(self._forced_deadlines), strict=True
            )
            if job != _NO_ID and _NEVER < deadline < now
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
        for place, cell in enumerate(_cut(self._ids, _CELL_BYTES)) if wanted else ():
            if cell[:_ID_BYTES] in wanted and self._deadlines[place]:
                self._deadlines[place] += seconds
                now = self._cell(place)
                if now == _EMPTY or now[_ID_BYTES]:
                    self._deadlines[place] = _NEVER

    def writer(self) -> "BoardWriter":
        """In the child: return what puts jobs on the board. There is one for a board."""
        return BoardWriter(self._ids, self._deadlines, self._limits, self._at_once)

    def _used(self) -> list[bytes]:
        return [cell for _, cell in _not_empty(bytes(self._ids.raw), _CELL_BYTES)]

    def _cell(self, place: int) -> bytes:
        return bytes(self._ids[place * _CELL_BYTES : (place + 1) * _CELL_BYTES])


class BoardWriter:
    """Puts the jobs of a child on its board, and takes them off. Callable from all threads of the child."""

    __slots__ = ("_at_once", "_cells", "_deadlines", "_free", "_limits")

    def __init__(self, cells: Any, deadlines: Any, limits: Any, at_once: int) -> None:
        self._cells = memoryview(cells).cast("B")
        self._deadlines = memoryview(deadlines).cast("B").cast("d")
        self._limits = memoryview(limits).cast("B").cast("d")
        self._free = deque(range(len(self._deadlines)))
        self._at_once = at_once

    def put(self, job: UUID, deadline: float = _NEVER, limit: float = 0.0) -> int:
        """Put a job on the board that begins now; return its place.

        deadline: its hard deadline. limit: the hard timeout that the deadline comes from, in seconds.
        """
        place = self._free.popleft()
        # Most jobs have no deadline: they skip these writes.
        if deadline:
            self._limits[place] = limit
            self._deadlines[place] = deadline
        start = place * _CELL_BYTES
        self._cells[start : start + _ID_BYTES] = job.bytes
        return place

    def end(self, place: int) -> int:
        """Record that the function of a job has ended; return the place, which must be cleared later.

        Return -1 if it has been cleared, because the rest is needed for jobs that run.
        """
        if len(self._free) < self._at_once:
            self.clear(place)
            return -1
        if self._deadlines[place]:
            self._deadlines[place] = _NEVER
        self._cells[place * _CELL_BYTES + _ID_BYTES] = 1
        return place

    def clear(self, place: int) -> None:
        """Take a job off the board."""
        if self._deadlines[place]:
            self._deadlines[place] = _NEVER
        start = place * _CELL_BYTES
        self._cells[start : start + _CELL_BYTES] = _EMPTY
        # It is used again next: so the used places are near each other.
        self._free.appendleft(place)


def _job(cell: bytes) -> UUID:
    return UUID(bytes=cell[:_ID_BYTES])


def _not_empty(raw: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the entries of this size that are not zero, each with its place. Empty blocks cost nothing."""
    empty, step = bytes(size), _BLOCK * size
    for first in range(0, len(raw), step):
        block = raw[first : first + step]
        if block != bytes(len(block)):
            for start in range(0, len(block), size):
                entry = block[start : start + size]
                if entry != empty:
                    yield (first + start) // size, entry


def _cut(array: Any, size: int) -> list[bytes]:
    raw = bytes(array.raw)
    return [raw[start : start + size] for start in range(0, len(raw), size)]
