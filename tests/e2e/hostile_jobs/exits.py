"""Jobs that exit."""

import _thread
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from .cases import case, doze


@case(error="SystemExit")
def exits() -> None:
    sys.exit(0)


@case(error="SystemExit")
def exits_with_text() -> None:
    sys.exit("no more")


@case(error="SystemExit")
def exits_its_thread() -> None:
    _thread.exit()


@case(error="KeyboardInterrupt")
def presses_ctrl_c() -> None:
    raise KeyboardInterrupt


@case(error="GeneratorExit")
def closes_a_generator() -> None:
    raise GeneratorExit


@case("succeeded")
def stops_its_thread() -> None:
    thread: Any = threading.current_thread()
    thread.running = False


@case("succeeded")
def stops_all_threads() -> None:
    for thread in threading.enumerate():
        for verb in ("stop", "pause"):
            with suppress(AttributeError, TypeError, RuntimeError):
                getattr(thread, verb)()
        with suppress(TypeError, RuntimeError):
            getattr(thread, "stop", id)(1)
        vars(thread).update(running=False, paused=False)


class NoException(BaseException):
    """Of the kind that `except Exception` misses."""


@case(error="NoException")
def raises_base_exception() -> None:
    raise NoException


@case("succeeded")
def interrupts_the_main_thread() -> None:
    _thread.interrupt_main()
    doze(0.1)


@case("succeeded")
def sends_itself_sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    doze(0.1)
