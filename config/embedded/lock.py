"""File locks between processes. The kernel releases them when their holder dies, even by SIGKILL."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.basics.clock import SYSTEM

_POLL: Final = 0.02


@contextmanager
def exclusive(path: Path, *, timeout: timedelta) -> Iterator[None]:
    """Hold an exclusive lock; raise Unavailable if another process holds it for longer than `timeout`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = SYSTEM.monotonic() + timeout.total_seconds()
        while not _locked(descriptor, fcntl.LOCK_EX):
            if SYSTEM.monotonic() > deadline:
                raise Unavailable(f"another process is starting or stopping the servers: it holds {path}")
            time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


class Usage:
    """Tells whether this process is the last user of a server.

    Each user holds a shared lock on one file. A user that can get the lock exclusively is the last one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def joined(self) -> bool:
        """Return whether this object holds the shared lock."""
        return self._descriptor is not None

    def join(self) -> None:
        """Become a user. Hold an `exclusive` lock to call this and `leave`, because they are not atomic."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Stop being a user. Return True if no other user is left."""
        if self._descriptor is None:
            return False
        last = _locked(self._descriptor, fcntl.LOCK_EX)
        # a forked child shares this lock, so closing the file would not release it
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = None
        return last


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
