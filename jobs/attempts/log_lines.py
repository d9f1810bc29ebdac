"""What an attempt logs, on its way to the database: its newest lines, numbered, in bounded room."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple
from uuid import UUID

#: Lines of an attempt that are kept, the newest; and characters of a line.
MOST_LINES: Final = 1_000
LONGEST_LINE: Final = 4_000
LONGEST_LOGGER: Final = 200
LONGEST_LEVEL: Final = 20
#: Characters that may wait to be written, for each attempt.
_ROOM: Final = 512 * 1024


class LogLine(NamedTuple):
    """A line. `line` counts from 1 within the claim; `logged_at` in seconds since 1970."""

    line: int
    logged_at: float
    level: str
    logger: str
    message: str


class Portion(NamedTuple):
    """Lines of one attempt to be written at once; of its older lines, those below `keep_from` go."""

    job_id: UUID
    epoch: int
    attempt: int
    lines: list[LogLine]
    keep_from: int
    #: How many lines were lost before these without having been written.
    dropped: int


class LogLines:
    """The lines of one attempt. The job's threads add, one other thread takes; `register` hears when there is something.

    No lock: each step is one operation of a deque or a counter, which CPython does not break up.
    """

    __slots__ = ("_attempt", "_epoch", "_job_id", "_numbers", "_register", "_size", "_taken", "_waiting", "_written", "waits")  # fmt: skip

    def __init__(
        self, job_id: UUID, epoch: int, attempt: int, register: Callable[["LogLines"], None]
    ) -> None:
        self._job_id, self._epoch, self._attempt = job_id, epoch, attempt
        self._register = register
        self._numbers = count(1)
        self._waiting: deque[LogLine] = deque()
        self._size = 0
        self._taken: list[LogLine] = []
        #: The newest line that the database has.
        self._written = 0
        #: Whether lines wait that were registered and not taken yet.
        self.waits = False

    def add(self, logged_at: float, level: str, logger: str, message: str) -> None:
        """Append a line; when there is no room, the oldest that waits goes."""
        waiting = self._waiting
        waiting.append(LogLine(next(self._numbers), logged_at, level, logger, message))
        self._size += len(message)
        while len(waiting) > MOST_LINES or self._size > _ROOM:
            try:
                self._size -= len(waiting.popleft().message)
            except IndexError:
                self._size = 0
        if not self.waits:
            self.waits = True
            self._register(self)

    def take(self) -> Portion | None:
        """What waits, and what was taken before and not written; None when that is nothing."""
        self.waits = False
        fresh: list[LogLine] = []
        with suppress(IndexError):
            while len(fresh) < MOST_LINES:
                line = self._waiting.popleft()
                self._size -= len(line.message)
                fresh.append(line)
        if not self._waiting:
            # Both sides count without a lock; here is where they come to agree again.
            self._size = 0
        if not fresh and not self._taken:
            return None
        lines = _newest(sorted(self._taken + fresh))
        self._taken = lines
        return self._portion(lines)

    def written(self) -> None:
        """What was taken last is in the database."""
        if self._taken:
            self._written = self._taken[-1].line
        self._taken = []

    def _portion(self, lines: list[LogLine]) -> Portion:
        """The lines, and a notice in the place of the last line before them that is gone."""
        first, newest = lines[0], lines[-1].line
        dropped = first.line - 1 - self._written
        gone = newest - MOST_LINES
        notices = []
        if gone > 0:
            notices.append(_notice(gone, gone, first.logged_at))
        if dropped > 0 and first.line - 1 > max(gone, 0):
            notices.append(_notice(first.line - 1, dropped, first.logged_at))
        return Portion(
            self._job_id, self._epoch, self._attempt, [*notices, *lines], max(gone, 0), max(dropped, 0)
        )


def _newest(lines: list[LogLine]) -> list[LogLine]:
    """As many of the newest lines as there is room for; at least one."""
    least, size, first = lines[-1].line - MOST_LINES, 0, len(lines)
    for index in range(len(lines) - 1, -1, -1):
        size += len(lines[index].message)
        if lines[index].line <= least or (size > _ROOM and first < len(lines)):
            break
        first = index
    return lines[first:]


def _notice(line: int, dropped: int, at: float) -> LogLine:
    were = "line was" if dropped == 1 else "lines were"
    return LogLine(line, at, "warning", "callboard", f"… {dropped:,} {were} dropped")
