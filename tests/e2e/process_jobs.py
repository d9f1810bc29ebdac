"""Jobs that change their process, and the ones that show whether it still works."""
# ruff: noqa: PTH106, PTH109, PLW0108

import faulthandler
import gc
import locale
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from callboard import RetryPolicy, job

ONCE = RetryPolicy(max_attempts=1)


def deleted_folder() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


def patch(module: Any, name: str, value: object) -> None:
    setattr(module, name, value)


def no(*_: object) -> bool:
    raise RuntimeError("a job replaced this method")


def break_loggers() -> None:
    patch(logging.Logger, "isEnabledFor", no)
    patch(logging.Logger, "handle", no)


HOSTILE: dict[str, Callable[[], object]] = {
    "loggers": break_loggers,
    "recursion": lambda: sys.setrecursionlimit(60),
    "switch": lambda: sys.setswitchinterval(10),
    "stdout none": lambda: patch(sys, "stdout", None),
    "stderr none": lambda: patch(sys, "stderr", None),
    "stdout closed": lambda: sys.stdout.close(),
    "fd 1": lambda: os.close(1),
    "fd 2": lambda: os.close(2),
    "dup2": lambda: os.dup2(os.open("/dev/null", os.O_WRONLY), 1),
    "stdin": lambda: os.close(0),
    "cwd": lambda: os.chdir("/"),
    "deleted cwd": deleted_folder,
    "umask": lambda: os.umask(0o777),
    "environment": lambda: os.environ.clear(),
    "zone": lambda: (os.environ.update(TZ="Asia/Tokyo"), time.tzset()),  # type: ignore[func-returns-value]
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "warnings": lambda: warnings.simplefilter("error"),
    "alarm": lambda: signal.alarm(1),
    "timer": lambda: signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01),
    "gc": lambda: gc.disable(),
    "hooks": lambda: patch(threading, "excepthook", None),
    "exception hook": lambda: patch(sys, "excepthook", None),
    "faulthandler": faulthandler.disable,
    "files": lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (8, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    ),
}


@job(retry=ONCE)
def hostile_process(what: str) -> str:
    HOSTILE[what]()
    return what


@job(retry=ONCE)
def tells(n: int) -> str:
    logging.getLogger("shop").warning("line %d", n)
    return os.getcwd()


@job(retry=ONCE)
def errs() -> None:
    raise ValueError("on purpose")


@job(retry=ONCE, timeout="300ms")
def lingers() -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.01)


@job(retry=ONCE)
def program() -> list[str]:
    """What a program that a job starts inherits of signals."""
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    return [line for line in status.splitlines() if line.startswith(("SigIgn", "SigBlk"))]
