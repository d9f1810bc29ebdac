"""Find the processes of one server by the folder they work in, and end them."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from callboard.jobs.model.clock import SYSTEM

_POLL: Final = 0.01


def working_in(folder: Path, program: str) -> list[psutil.Process]:
    """The live processes of this program whose working directory is `folder`, as psutil knows them."""
    place, found = str(folder.resolve()), []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == program:
            # a process that ends meanwhile, and another user's, are not ours
            with suppress(psutil.Error):
                if process.cwd() == place:
                    found.append(process)
    return found


def end(find: Callable[[], list[psutil.Process]], signals: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal to the processes that lead the others, then wait its seconds; true when all are gone."""
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


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that only waits to be collected by its parent does not."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _none_alive(processes: Sequence[psutil.Process]) -> bool:
    return not any(alive(process) for process in processes)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look until the condition holds; false when it does not hold in time."""
    deadline = SYSTEM.monotonic() + seconds
    while not condition():
        if SYSTEM.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
