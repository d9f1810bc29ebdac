"""The lines of an attempt that wait to be written: numbered; only the newest; bounded in number and size."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple
from uuid import UUID

#: How many lines of an attempt are kept (the newest), and how many characters of a line.
MOST_LINES: Final = 1_000
LONGEST_LINE: Final = 4_000
LONGEST_LOGGER: Final = 200
LONGEST_LEVEL: Final = 20
#: This many characters of one attempt may wait to be written.
_MAX_WAITING: Final = 512 * 1024


class LogLine(NamedTuple):
    """A line. `line`: its number within the attempt, from 1. `logged_at`: seconds since 1970."""

    line: int
    logged_at: float
    level: str
    logger: str
    message: str


class Portion(NamedTuple):
    """Lines of one attempt to write together. Its stored lines with numbers below `keep_from` are deleted."""

    job_id: UUID
    epoch: int
    attempt: int
    lines: list[LogLine]
    keep_from: int
    #: How many lines before these were dropped and never written.
    dropped: int


class LogLines:
    """The waiting lines of one attempt. The job's threads add lines; one other thread takes them.

    register: called when the first line is added.

    There is no lock: each step is one atomic operation of a deque or a counter in CPython.
    """

    __slots__ = (
        "_attempt", "_epoch", "_job_id", "_numbers", "_register", "_size", "_taken", "_waiting", "_written",
        "waits",
    )  # fmt: skip

    def __init__(
        self, job_id: UUID, epoch: int, attempt: int, register: Callable[["LogLines"], None]
    ) -> None:
        self._job_id, self._epoch, self._attempt = job_id, epoch, attempt
        self._register = register
        self._numbers = count(1)
        self._waiting: deque[LogLine] = deque()
        self._size = 0
        self._taken: list[LogLine] = []
        #: The number of the newest line that is written.
        self._written = 0
        #: True while registered lines wait to be taken.
        self.waits = False

    def add(self, logged_at: float, level: str, logger: str, message: str) -> None:
        """Append a line. When there is no room, the oldest waiting lines are dropped."""
        waiting = self._waiting
        waiting.append(LogLine(next(self._numbers), logged_at, level, logger, message))
        self._size += len(message)
        while len(waiting) > MOST_LINES or self._size > _MAX_WAITING:
            try:
                self._size -= len(waiting.popleft().message)
            except IndexError:
                self._size = 0
        if not self.waits:
            self.waits = True
            self._register(self)

    def take(self) -> Portion | None:
        """Take the waiting lines, and the lines that were taken but not written; None if there are none."""
        self.waits = False
        fresh: list[LogLine] = []
        with suppress(IndexError):
            while len(fresh) < MOST_LINES:
                line = self._waiting.popleft()
                self._size -= len(line.message)
                fresh.append(line)
        if not self._waiting:
            # Two threads change the size without a lock. An empty deque is the moment to correct it.
            self._size = 0
        if not fresh and not self._taken:
            return None
        lines = _newest(sorted(self._taken + fresh))
        self._taken = lines
        return self._portion(lines)

    def written(self) -> None:
        """Record that the lines of the last `take` are written."""
        if self._taken:
            self._written = self._taken[-1].line
        self._taken = []

    def _portion(self, lines: list[LogLine]) -> Portion:
        """Return the portion of these lines.

        A notice about dropped lines replaces the last line that was dropped before them.
        """
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
    """Return the newest lines that fit into the limit, at least one."""
    least, size, first = lines[-1].line - MOST_LINES, 0, len(lines)
    for index in range(len(lines) - 1, -1, -1):
        size += len(lines[index].message)
        if lines[index].line <= least or (size > _MAX_WAITING and first < len(lines)):
            break
        first = index
    return lines[first:]


def _notice(line: int, dropped: int, at: float) -> LogLine:
    were = "line was" if dropped == 1 else "lines were"
    return LogLine(line, at, "warning", "callboard", f"… {dropped:,} {were} dropped")
