"""Interrupting a job from another thread, so that it hits the job and never the framework around it.

CPython raises an asynchronous exception at the next bytecode of the target thread, wherever that is by then.
A guard is armed just inside the job's call and disarmed just outside of it, under the lock that a sender
holds; a pending exception that has not struck by then is withdrawn.
"""

import ctypes
import sys
from threading import Lock, get_ident
from typing import Any, Self

from dramatiq.middleware import Shutdown, TimeLimitExceeded
from dramatiq.threading import Interrupt, raise_thread_exception


class JobInterrupt(Interrupt):
    """Why a running job is interrupted. A BaseException, so that `except Exception` does not swallow it."""


class CancelInterrupt(JobInterrupt):
    """Somebody asked for the job to stop."""


class TimeoutInterrupt(JobInterrupt, TimeLimitExceeded):
    """The attempt took longer than its timeout. Jobs may catch it by Dramatiq's name."""


class ShutdownInterrupt(JobInterrupt, Shutdown):
    """The worker's grace period is over. Jobs may catch it by Dramatiq's name."""


class Guard:
    """Makes the block inside `with guard:` interruptible; again, when it has swallowed an interrupt."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._thread: int | None = None
        self._sent: type[JobInterrupt] | None = None

    def send(self, interrupt: type[JobInterrupt]) -> bool:
        """Interrupt the block if it is running; whether that was done. One that is cleaning up after an interrupt is left alone."""
        with self._lock:
            if self._thread is None or (self._sent is not None and _cleans_up(self._thread)):
                return False
            self._sent = interrupt
            raise_thread_exception(self._thread, interrupt)  # type: ignore[no-untyped-call]
            return True

    def __enter__(self) -> Self:
        with self._lock:
            self._thread = get_ident()
        return self

    def __exit__(self, *_: object) -> None:
        self.disarm()

    def disarm(self) -> None:
        """Let no interrupt through any more. Called again by whoever catches an interrupt that struck in here."""
        with self._lock:
            if self._thread is not None and self._sent is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
            self._thread = None


def _cleans_up(thread: int) -> bool:
    """Whether a thread is in an `except` or `finally` that an interrupt has led to."""
    handled: Any = sys._current_exceptions().get(thread)  # noqa: SLF001 - documented, its name notwithstanding
    # until Python 3.11 a triple
    error: BaseException | None = handled[1] if isinstance(handled, tuple) else handled
    while error is not None:
        if isinstance(error, JobInterrupt):
            return True
        error = error.__context__
    return False
