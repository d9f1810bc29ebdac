"""The last resort of a process that stops: it ends although a thread hangs."""

import faulthandler
import os
import tempfile
import time
from threading import Thread
from typing import Final

import structlog

from callboard.config import log_writer

#: The exit code of a process that a hanging thread kept from its end.
EXIT_OVERDUE: Final = 1
_LONGEST_STACKS: Final = 32_000

log = structlog.get_logger(__name__)


def end_at_latest(seconds: float) -> None:
    """End this process after so many seconds, unless it ends before. Nothing waits for a thread then.

    No job is lost by that: what is not committed runs again.
    """
    Thread(target=_end, args=(seconds,), name="callboard-ending", daemon=True).start()


def _end(seconds: float) -> None:
    time.sleep(seconds)
    log.error("process.stop_overdue", after=seconds, reason="a thread hangs", stacks=_stacks())
    log_writer.flush()
    os._exit(EXIT_OVERDUE)


def _stacks() -> list[str]:
    """Return the stacks of all threads. They go into the log, because the reader of stderr may hang too."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read(_LONGEST_STACKS).decode("utf-8", "replace").splitlines()
