"""The last resort of a process that stops: it ends although a thread hangs."""

import faulthandler
import os
import sys
import time
from threading import Thread
from typing import Final

import structlog

#: The exit code of a process that a hanging thread kept from its end.
EXIT_OVERDUE: Final = 1

log = structlog.get_logger(__name__)


def end_at_latest(seconds: float) -> None:
    """End this process after so many seconds, unless it ends before. Nothing waits for a thread then.

    No job is lost by that: what is not committed runs again.
    """
    Thread(target=_end, args=(seconds,), name="callboard-ending", daemon=True).start()


def _end(seconds: float) -> None:
    time.sleep(seconds)
    log.error("process.stop_overdue", after=seconds, reason="a thread hangs; the stacks are on stderr")
    faulthandler.dump_traceback(sys.__stderr__ or 2)
    os._exit(EXIT_OVERDUE)
