"""The last resort of a process that stops: it ends although a thread hangs."""

import faulthandler
import tempfile
from contextlib import suppress

# As they are before users' code can replace them.
from os import _exit
from threading import Thread
from time import sleep
from typing import Final

import structlog

from callboard.config import log_writer

#: The exit code of a process that a hanging thread kept from its end.
EXIT_OVERDUE: Final = 1
_LONGEST_STACKS: Final = 32_000

log = structlog.get_logger(__name__)


def end_at_latest(seconds: float, code: int = EXIT_OVERDUE) -> None:
    """End this process after so many seconds, unless it ends before. Nothing waits for a thread then.

    No job is lost by that: what is not committed runs again.
    """
    Thread(target=_end, args=(seconds, code), name="callboard-ending", daemon=True).start()


def _end(seconds: float, code: int) -> None:
    sleep(seconds)
    # Files that are full, or a log that a job has broken, must not keep the process from its end.
    with suppress(Exception):
        log.error("process.stop_overdue", after=seconds, reason="a thread hangs", stacks=_stacks())
        log_writer.flush()
    _exit(code)


def _stacks() -> list[str]:
    """Return the stacks of all threads. They go into the log, because the reader of stderr may hang too."""
    with suppress(OSError), tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read(_LONGEST_STACKS).decode("utf-8", "replace").splitlines()
    return []
