"""The standard streams of a worker process: they are put back after a job has closed or replaced them."""

import fcntl
import os
import resource
import stat
import sys

from callboard.workers.process.shared_state import CannotRestore


class StandardStreams:
    """stdin, stdout and stderr, and copies of their file descriptors to put them back from.

    Python's own streams and the descriptors 1 and 2 are separate: `sys.stdout = None` changes one,
    `os.close(1)` the other, and `sys.stdout.close()` both.
    """

    def __init__(self) -> None:
        #: A number that jobs do not count up to: `os.closerange(3, 256)` is common.
        least = min(500, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._copies = {number: _copy(number, least) for number in (1, 2)}
        self._identities = {number: identity(number) for number in self._copies}
        self._streams = {"stdout": sys.stdout, "stderr": sys.stderr}

    def put_back(self, *, idle: bool) -> list[str]:
        """Put back what a job has closed at once, and what it has replaced when no job runs.

        Return the names of what had changed. Raises CannotRestore when something else has taken the place.
        """
        changed = []
        for number, start in self._identities.items():
            now = identity(number)
            if start is None or now == start:
                continue
            if now is not None and stat.S_ISSOCK(now[2]) and not stat.S_ISSOCK(start[2]):
                raise CannotRestore(
                    f"a job closed the file descriptor {number}, and a connection has taken it"
                )
            if now is None or idle:
                os.dup2(self._copies[number], number, inheritable=True)
                changed.append(f"file descriptor {number}")
        for number, (name, stream) in enumerate(self._streams.items(), start=1):
            now = getattr(sys, name, None)
            usable = now is not None and not getattr(now, "closed", False)
            if usable and (now is stream or not idle):
                continue
            if stream is None or now is stream is None:
                continue
            if stream.closed:
                # The descriptor is open again by now.
                stream = open(number, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115, PLW2901
                self._streams[name] = stream
            if now is not stream:
                setattr(sys, name, stream)
                changed.append(f"sys.{name}")
        return changed


def _copy(number: int, least: int) -> int:
    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, least)
    except OSError:
        return -1


def identity(number: int) -> tuple[int, int, int] | None:
    """Return what a file descriptor refers to: device, file and mode; None if it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mode
