"""Jobs that change their process."""

import builtins
import ctypes
import gc
import locale
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from typing import Any

from callboard import current_job

from .cases import case, doze
from .event_loop import Kept


@case("succeeded")
def closes_stdio() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.close()


@case("succeeded")
def removes_stdio() -> None:
    sys.stdout = sys.stderr = sys.__stderr__ = None  # type: ignore[misc]


@case("succeeded")
def closes_its_descriptors() -> None:
    for number in (0, 1, 2):
        with suppress(OSError):
            os.close(number)


@case("succeeded")
def removes_its_directory() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    shutil.rmtree(folder)


@case("succeeded")
def sets_its_umask() -> None:
    os.umask(0o777)


@case("succeeded")
def empties_its_environment() -> None:
    os.environ.clear()


@case("succeeded")
def sets_the_locale() -> None:
    locale.setlocale(locale.LC_ALL, "C")


@case("succeeded")
def moves_to_another_zone() -> None:
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()


@case("succeeded")
def lowers_the_recursion_limit() -> None:
    sys.setrecursionlimit(60)


@case("succeeded")
def raises_the_switch_interval() -> None:
    sys.setswitchinterval(10)


@case("succeeded")
def turns_warnings_into_errors() -> None:
    warnings.simplefilter("error")


@case("succeeded")
def disables_garbage_collection() -> None:
    gc.disable()


@case("succeeded")
def replaces_hooks() -> None:
    def hook(*_: object) -> None:
        sys.exit(1)

    sys.excepthook = threading.excepthook = sys.unraisablehook = hook


@case("succeeded")
def traces_threads() -> None:
    def trace(*_: object) -> Any:
        raise RuntimeError("traced")

    threading.settrace(trace)
    threading.setprofile(trace)


@case("succeeded")
def sets_a_socket_timeout() -> None:
    socket.setdefaulttimeout(0.001)


@case("succeeded")
def sets_a_timer() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    doze(0.1)


@case("succeeded")
def uses_up_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, most))


@case("succeeded")
def seeds_the_generator() -> None:
    random.seed(1)


@case("succeeded")
def patches_print() -> None:
    def no_print(*_: object, **__: object) -> None:
        raise RuntimeError("no print")

    builtins.print = no_print


@case("succeeded")
def forks_and_returns() -> str:
    copy = os.fork()
    if copy:
        os.waitpid(copy, 0)
    return "one of two"


@case("succeeded")
def forks_and_exits() -> None:
    copy = os.fork()
    if not copy:
        sys.exit(3)
    os.waitpid(copy, 0)


@case("succeeded")
def leaves_a_thread() -> None:
    running = current_job()

    def later() -> None:
        doze(1)
        running.progress(0.9, "too late")

    threading.Thread(target=later, daemon=True).start()


@case("succeeded")
def leaves_a_thread_that_does_not_end() -> None:
    threading.Thread(target=doze, args=(3600,)).start()


@case("succeeded")
def keeps_the_interpreter() -> None:
    ctypes.PyDLL(None).usleep(1_500_000)


@case("succeeded")
def sets_a_variable() -> None:
    assert Kept.variable.get(None) is None
    Kept.variable.set(1)
