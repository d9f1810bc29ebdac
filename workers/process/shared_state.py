"""The state of the process that all its jobs share: it is put back after a job has changed it.

Python and the operating system keep much of a process's state once for all threads. What one job changes, the
next one gets, and so does the worker. `SharedState` compares it with the state after the import of the jobs.
What harms the worker is put back at once. What may be meant by a job that still runs, such as a working
directory, is put back when no job runs.
"""

import gc
import logging
import os
import re
import resource
import socket
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

#: Limits that a job may lower for the whole process.
_LIMITS: Final = {
    "CPU time": resource.RLIMIT_CPU,
    "memory": resource.RLIMIT_AS,
    "data": resource.RLIMIT_DATA,
    "file size": resource.RLIMIT_FSIZE,
}
#: A switch interval above this lets a busy thread block the others for too long. Seconds.
_LONGEST_SWITCH: Final = 0.1
#: More than the system writes of a process before its umask. Bytes.
_STATUS_SIZE: Final = 4096


class CannotRestore(Exception):
    """The state cannot be put back: the process must be replaced."""


@dataclass(frozen=True, slots=True)
class Item:
    """A part of the shared state.

    read:   returns its value; a value that differs from the one at the start was changed by a job.
    write:  puts the value of the start back. Raises CannotRestore or OSError when that is not possible.
    harms:  whether a changed value is put back although jobs run. Arguments: the value now, and at the start.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    harms: Callable[[Any, Any], bool] = lambda _now, _start: True


def thread_items() -> list[Item]:
    """Return what can stop the worker's own threads, or the next job."""
    return [
        Item(
            "recursion limit",
            sys.getrecursionlimit,
            sys.setrecursionlimit,
            lambda now, start: now < start,
        ),
        Item(
            "thread switch interval",
            sys.getswitchinterval,
            sys.setswitchinterval,
            lambda now, _: now > _LONGEST_SWITCH,
        ),
        Item("default socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
        # The next job may fail without one.
        _cwd(),
        Item(
            "limit of open files",
            lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
            _limit_writer(resource.RLIMIT_NOFILE),
        ),
        # The log capture extends these, and the libraries of the worker's threads call them.
        Item("methods of logging.Logger", _logger_methods, _put_logger_methods_back),
    ]


def process_items() -> list[Item]:
    """Return the rest of the shared state."""
    return [
        Item("garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable(), _waits),
        Item("warning filters", lambda: tuple(warnings.filters), _put_filters_back, _is_error),
        Item(
            "import path",
            lambda: tuple(sys.path),
            _put_path_back,
            lambda now, start: not set(start) <= set(now),
        ),
        Item("umask", _umask, os.umask, _waits),
        *(
            Item(f"limit of {name}", lambda kind=kind: resource.getrlimit(kind), _limit_writer(kind))  # type: ignore[misc]
            for name, kind in _LIMITS.items()
        ),
    ]


class SharedState:
    """The shared state of this process. Make it when the jobs are imported."""

    def __init__(self) -> None:
        self._urgent = [(item, item.read()) for item in thread_items()]
        self._others = [(item, item.read()) for item in process_items()]

    def put_back_urgent(self, *, idle: bool) -> list[str]:
        """Put back what can stop the worker's own threads; return the names of what had changed."""
        return self._put_back(self._urgent, idle=idle)

    def put_back(self, *, idle: bool) -> list[str]:
        """Put back everything else; return the names of what had changed. Raises CannotRestore."""
        return self._put_back(self._others, idle=idle)

    def _put_back(self, items: list[tuple[Item, Any]], *, idle: bool) -> list[str]:
        changed = []
        for item, start in items:
            now = item.read()
            if now == start or not (idle or item.harms(now, start)):
                continue
            try:
                item.write(start)
            except (OSError, ValueError) as error:
                raise CannotRestore(f"a job changed the {item.name}: {error}") from error
            changed.append(item.name)
        return changed


def _logger_methods() -> tuple[Any, ...]:
    return logging.Logger.isEnabledFor, logging.Logger.handle


def _put_logger_methods_back(start: tuple[Any, ...]) -> None:
    logging.Logger.isEnabledFor, logging.Logger.handle = start  # type: ignore[method-assign]


def _waits(_now: object, _start: object) -> bool:
    return False


def _is_error(now: tuple[Any, ...], start: tuple[Any, ...]) -> bool:
    """Return whether every warning is an error now, also those in the worker's own threads."""
    return bool(now) and now[0] not in start and now[0][0] == "error" and now[0][2] is Warning


def _put_filters_back(start: tuple[Any, ...]) -> None:
    # Python caches what the filters decide, and notices only changes through its own functions.
    module: Any = warnings
    module.filters[:] = start
    module._filters_mutated()  # noqa: SLF001


def _put_path_back(start: tuple[str, ...]) -> None:
    """Put back the entries that are missing. Entries that a job has added stay."""
    sys.path += [entry for entry in start if entry not in sys.path]


def _umask() -> int:
    """Return the umask. `os.umask` can only read it by changing it, which another thread could notice."""
    # `open` may be replaced.
    status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = re.search(rb"^Umask:\s*([0-7]+)", os.read(status, _STATUS_SIZE), re.MULTILINE)
    finally:
        os.close(status)
    return int(found[1], 8) if found else 0


def _cwd() -> Item:
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def read() -> str | None:
        try:
            return os.getcwd()  # noqa: PTH109 - compared as text
        except OSError:
            return None

    def go_back(start: str | None) -> None:
        if start is not None:
            try:
                os.fchdir(folder)
            except OSError:
                os.chdir(start)

    # A folder that is deleted is of no use to a job either.
    return Item("working directory", read, go_back, lambda now, _: now is None)


def _limit_writer(kind: int) -> Callable[[tuple[int, int]], None]:
    return lambda start: resource.setrlimit(kind, start)
