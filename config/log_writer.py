"""The log writer: it writes finished lines to a stream in a thread of its own, so no log call waits.

While the stream does not take lines, the writer keeps a bounded number of them. It drops and counts the rest,
and says how many with one line when the stream takes lines again.
"""

import atexit
import os
import select
from _thread import LockType, allocate_lock
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Final, Protocol, TextIO
from weakref import WeakSet

#: The lines that wait at most, and their characters.
MOST_LINES: Final = 10_000
MOST_CHARACTERS: Final = 8 * 1024 * 1024
#: How long a process that ends waits for the stream. Seconds.
LAST_WRITES: Final = 1.0
#: Writes to a pipe up to this size do not mix with those of other processes. Bytes.
_CHUNK: Final = select.PIPE_BUF
#: How long a forked copy waits for a stream that takes nothing, before it drops lines. Seconds.
_COPY_PATIENCE: Final = 0.1
#: How often dropped lines are counted. Seconds.
_COUNT_EVERY: Final = 1.0
#: How often the writer checks a stream that was made non-blocking by another process. Seconds.
_RETRY_AFTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Background:
    """The wish to write in a thread. on_dropped: is called with the number of lines that were dropped."""

    on_dropped: Callable[[int], object]


class LineSink(Protocol):
    """Takes finished lines, without their line end."""

    def put(self, line: str) -> None: ...


class StreamLines:
    """Writes each line at once. For short commands, whose reader may slow them down.

    An error of the stream is ignored, because the program must not fail when a log line cannot be written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = allocate_lock()

    def put(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass


class LogWriter:
    """Writes lines to a duplicate of a stream's file descriptor, in the order of `put`.

    A job may close or replace the process's own stderr: the duplicate stays. notice: makes the line that says
    how many lines were dropped.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], str], background: Background) -> None:
        self._source = stream.fileno()
        self._fd = os.dup(self._source)
        self._identity = _identity(self._fd)
        self._notice = notice
        # Its methods are C code without Python locks: an interrupt may end a job inside `put`, and a signal
        # handler may log while its thread is inside `put`.
        self._queue: SimpleQueue[str | LockType] = SimpleQueue()
        self._characters = 0
        #: Lines that were not written, since the start.
        self.dropped = 0
        self._reported = 0
        # True from the first line that finds no room until all waiting lines are written: so the lines of one
        # stall are dropped in one piece, and one line says how many.
        self._dropping = False
        # The last write ended inside a line.
        self._torn = False
        self._is_copy = False
        self._writable = True
        _writers.add(self)
        atexit.register(self.flush)
        self._on_dropped = background.on_dropped
        for name, run in (("writer", self._run), ("counter", self._count)):
            Thread(target=run, name=f"callboard-log-{name}", daemon=True).start()

    def put(self, line: str) -> None:
        """Write the line soon, or drop it and count it. Never waits."""
        if self._is_copy:
            self._write_now(line)
        elif self._dropping or self._queue.qsize() >= MOST_LINES or self._characters >= MOST_CHARACTERS:
            self._dropping = True
            self.dropped += 1
        else:
            # The sums of two threads may miss a line. The writer sets them right when the queue is empty.
            self._characters += len(line)
            self._queue.put(line)

    def flush(self, seconds: float = LAST_WRITES) -> bool:
        """Wait until the lines so far are written, at most so long. Return whether they are."""
        if self._is_copy:
            return True
        written = allocate_lock()
        written.acquire()
        self._queue.put(written)
        return written.acquire(timeout=seconds)

    def become_copy(self) -> None:
        """Write each line at once from now on: this process is a fork, and has no writer thread.

        The lines that waited are those of the parent, which writes them.
        """
        self._is_copy = True
        self._queue = SimpleQueue()

    def _run(self) -> None:
        chunk: list[bytes] = []
        size = 0
        while True:
            item = self._queue.get()
            if isinstance(item, str):
                self._characters -= len(item)
                line = _encoded(item)
                if size + len(line) > _CHUNK and chunk:
                    self._write(chunk)
                    chunk, size = [], 0
                chunk.append(line)
                size += len(line)
            if not isinstance(item, str) or self._queue.empty():
                if chunk:
                    self._write(chunk)
                    chunk, size = [], 0
                self._catch_up()
            if not isinstance(item, str):
                item.release()

    def _count(self) -> None:
        """Report dropped lines to the metric: here, because the writer's thread may wait for the stream."""
        counted, pause = 0, Event()
        while True:
            pause.wait(_COUNT_EVERY)
            new = self.dropped - counted
            if new:
                self._on_dropped(new)
                counted += new

    def _catch_up(self) -> None:
        """Say how many lines were dropped, and take lines again."""
        if self._queue.empty():
            self._characters = 0
        missing = self.dropped - self._reported
        if missing and self._send(_encoded(self._notice(missing))):
            self._reported += missing
        self._dropping = False

    def _write(self, lines: list[bytes]) -> None:
        if self.dropped != self._reported and not self._dropping:
            # An earlier write failed.
            self._catch_up()
        if not self._send(b"".join(lines)):
            self.dropped += len(lines)

    def _send(self, data: bytes) -> bool:
        """Write all of this; return False if the stream refuses it."""
        if self._torn:
            data = b"\n" + data
        sent = 0
        while sent < len(data):
            try:
                sent += os.write(self._own_fd(), data[sent:])
            except BlockingIOError:
                if not self._wait_writable(_RETRY_AFTER) and self._is_copy:
                    return self._failed(sent)
            except OSError:
                return self._failed(sent)
        self._torn = False
        return True

    def _failed(self, sent: int) -> bool:
        self._torn = self._torn or sent > 0
        return False

    def _own_fd(self) -> int:
        """Return the duplicate, or a new one if a job has closed it: its number may be another file's now."""
        if _identity(self._fd) != self._identity:
            if _identity(self._source) != self._identity:
                raise OSError
            self._fd = os.dup(self._source)
        return self._fd

    def _write_now(self, line: str) -> None:
        # A copy that has waited once drops lines at once until the stream takes lines again.
        self._writable = self._wait_writable(_COPY_PATIENCE if self._writable else 0.0)
        if not self._writable or not self._send(_encoded(line)):
            self.dropped += 1

    def _wait_writable(self, seconds: float) -> bool:
        """Wait until the stream takes data; return whether it does. A closed one counts as one that does."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _identity(fd: int) -> tuple[int, int] | None:
    """Return what tells one open file from another; None for a closed one."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def put_text(text: str) -> None:
    """Write a text for people between the log lines of a process that writes in the background."""
    for writer in list(_writers):
        writer.put(text)


def flush() -> None:
    """Wait until the lines of this process are written, at most a second. For what ends by `os._exit`."""
    for writer in list(_writers):
        writer.flush()


#: The writers of this process; a forked process has a copy of the set.
_writers: Final[WeakSet[LogWriter]] = WeakSet()


def _become_copies() -> None:
    for writer in _writers:
        writer.become_copy()


os.register_at_fork(after_in_child=_become_copies)
