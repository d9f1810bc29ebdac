"""Find the processes of one server by their working directory, and stop them.

psutil is imported late: a command that finds its servers running does not need it.
"""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callboard.jobs.model.basics.clock import SYSTEM

if TYPE_CHECKING:
    import psutil

_POLL: Final = 0.01


def working_in(folder: Path, program: str) -> "list[psutil.Process]":
    """Return the live processes of this program whose working directory is `folder`."""
    import psutil

    wanted, found = str(folder.resolve()), []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == program:
            # a process that has just ended, or that belongs to another user, is skipped
            with suppress(psutil.Error):
                if process.cwd() == wanted:
                    found.append(process)
    return found


def end(find: Callable[[], list["psutil.Process"]], signals: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn and wait up to its number of seconds. Return True when no process is left.

    Only the parents among the processes get a signal, because a server stops its own children. SIGKILL goes
    to all of them.
    """
    import psutil

    for number, seconds in signals:
        processes = find()
        known = {process.pid for process in processes}
        for process in processes:
            with suppress(psutil.Error):
                if number == signal.SIGKILL or process.ppid() not in known:
                    process.send_signal(number)
        if wait_until(partial(_none_alive, processes), seconds) and not find():
            return True
    return False


def alive(process: "psutil.Process") -> bool:
    """Return whether the process runs. A zombie, which waits only for its parent, does not."""
    import psutil

    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _none_alive(processes: Sequence["psutil.Process"]) -> bool:
    return not any(alive(process) for process in processes)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; return False if it does not hold in time."""
    deadline = SYSTEM.monotonic() + seconds
    while not condition():
        if SYSTEM.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
