"""Jobs that change their process for good, and the ones that run beside them."""

import ctypes
import datetime as dt
import os
import resource
import sys
import time
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from callboard import RetryPolicy, job

KEPT: list[int] = []
ONCE = RetryPolicy(max_attempts=1)


def replace_threads() -> None:
    """Look as gevent's monkey patching does."""
    module: Any = types.ModuleType("gevent.monkey")
    module.is_module_patched = lambda name: name == "threading"
    sys.modules["gevent.monkey"] = module


def leak_files() -> None:
    with suppress(OSError):
        while True:
            KEPT.append(os.open("/dev/null", os.O_RDONLY))


def patch(module: Any, name: str, value: object) -> None:
    setattr(module, name, value)


DAMAGES: dict[str, Callable[[], object]] = {
    "threads": replace_threads,
    "descriptors": lambda: os.closerange(3, 70_000),
    "clock": lambda: patch(time, "time", lambda: 1.0),
    "sleep": lambda: patch(time, "sleep", lambda _: None),
    "dates": lambda: patch(dt, "datetime", int),
    "limits": lambda: patch(resource, "getrlimit", None),
    "files": leak_files,
    "leave": lambda: (patch(sys, "exit", None), replace_threads()),  # type: ignore[func-returns-value]
    "exit": lambda: (patch(os, "_exit", lambda _: None), patch(time, "sleep", lambda _: None)),  # type: ignore[func-returns-value]
}


@job(retry=ONCE)
def damages(what: str) -> str:
    DAMAGES[what]()
    return what


@job
def works_beside(path: str) -> int:
    """Runs until the file is there."""
    while not Path(path).exists():
        ctypes.CDLL(None).usleep(20_000)
    return os.getpid()


@job(queue="async")
async def tells_process_async() -> int:
    return os.getpid()


@job
def tells_process() -> int:
    return os.getpid()


@job
def blocks_once(path: str) -> int:
    """Block in C code where no interrupt reaches, at the first run."""
    if not Path(path).exists():
        Path(path).touch()
        ctypes.CDLL(None).sleep(100)
    return os.getpid()
