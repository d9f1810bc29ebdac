"""Threads that go on after an error that nothing handles, with a log event and a count."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Final

import structlog

from callboard.jobs.metrics import THREAD_FAILURES
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.current import running_here

#: Failures are counted over this time. Seconds.
_WITHIN: Final = 60.0
#: A thread that fails more often than this within that time ends, and its process is replaced.
MOST_FAILURES: Final = 10
#: With each failure the pause before the next call grows by this, up to the longest. Seconds.
_PAUSE_STEP: Final = 0.01
_LONGEST_PAUSE: Final = 1.0

log = structlog.get_logger(__name__)


class WatchedThread(Thread):
    """A daemon thread whose `work` is called again when it ends with an error, `SystemExit` included.

    `work` returns when the thread was asked to stop. It must be safe to call it again after any error.

    work:          what to call; without it, a subclass defines `work`.
    most_failures: after more failures than this within a minute the thread ends. Whoever watches it sees
                   `failed` then.
    """

    def __init__(
        self, name: str, work: Callable[[], object] | None = None, *, most_failures: int = MOST_FAILURES
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._call = work
        self._most_failures = most_failures
        self._finished = False

    @property
    def failed(self) -> bool:
        """Whether the thread was started and has ended without being asked to."""
        return self.ident is not None and not self._finished and not self.is_alive()

    def work(self) -> None:
        """Do the thread's work until it is asked to stop."""
        if self._call is None:
            raise NotImplementedError
        self._call()

    def run(self) -> None:
        failures: deque[float] = deque()
        while True:
            try:
                self.work()
            except BaseException as error:  # noqa: BLE001 - a thread of the platform must not end unseen
                report_failure(self.name, error)
            else:
                self._finished = True
                return
            now = SYSTEM.monotonic()
            failures.append(now)
            while now - failures[0] > _WITHIN:
                failures.popleft()
            if len(failures) > self._most_failures:
                return
            time.sleep(min(len(failures) * _PAUSE_STEP, _LONGEST_PAUSE))


def refuse_jobs(name: str) -> None:
    """Raise RuntimeError when a job calls this. A job can reach every thread by `threading.enumerate()`."""
    if running_here.get() is not None:
        raise RuntimeError(f"a job cannot stop or pause the thread {name} of its worker: other jobs need it")


def survive(thread: str, call: Callable[[], object]) -> None:
    """Call a function in a thread that must go on. An error is logged and counted."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - a thread of the platform must not end unseen
        report_failure(thread, error)


def report_failure(thread: str, error: BaseException) -> None:
    """Log and count an error that reached the end of a thread's work."""
    THREAD_FAILURES.labels(thread.removeprefix("callboard-")).inc()
    with suppress(BaseException):  # the error's own text, or a log handler of the program, may raise
        log.error("thread.failed", thread=thread, cause=type(error).__name__, exc_info=error)
