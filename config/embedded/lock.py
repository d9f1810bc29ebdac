"""Locks between processes that the kernel lets go when their holder dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from callboard.jobs.errors import Unavailable
from callboard.jobs.model.clock import SYSTEM

_POLL: Final = 0.02


@contextmanager
def exclusive(path: Path, *, patience: timedelta) -> Iterator[None]:
    """Hold the lock alone; raises Unavailable when another process keeps it longer than `patience`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = SYSTEM.monotonic() + patience.total_seconds()
        while not _locked(descriptor, fcntl.LOCK_EX):
            if SYSTEM.monotonic() > deadline:
                raise Unavailable(f"another process is busy starting or stopping servers: it holds {path}")
            time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


class Usage:
    """Counts who uses a thing: each user holds a shared lock, and whoever gets it alone is the last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def joined(self) -> bool:
        """Whether this object is a user."""
        return self._descriptor is not None

    def join(self) -> None:
        """Be a user from now on. Called, as `leave`, under an exclusive lock that makes the two one step."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def leave(self) -> bool:
        """Be a user no more; true when nobody else is one."""
        if self._descriptor is None:
            return False
        last = _locked(self._descriptor, fcntl.LOCK_EX)
        # a forked child shares this lock: closing alone would not let go of it
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
