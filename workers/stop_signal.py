"""The requests to stop a worker child: those of its supervisor, and the end of the supervisor.

The supervisor writes its request on the board, and sends SIGTERM to wake the child. A SIGTERM without a
request does not stop the child: a job may have sent it, and would run again after each stop. A service
manager that sends SIGTERM to all processes of a worker reaches the supervisor too.
"""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Event
from typing import Final

import structlog

from callboard.config.last_resort import end_at_latest
from callboard.jobs.watched_thread import WatchedThread
from callboard.workers.board import Board
from callboard.workers.execute import forks

#: From the end of the grace period, when the process ends in spite of a thread that hangs. Seconds.
LAST_RESORT: Final = 8.0
_LOOK_EVERY: Final = 0.2

log = structlog.get_logger(__name__)


class StopSignal:
    """The requests to stop.

    The first request, or the end of the supervisor, asks for a drain. The second request shortens it.
    """

    def __init__(self, grace: float, board: Board) -> None:
        self._grace = grace
        self._board = board
        self._requested = Event()
        #: Set when the supervisor has died. It renews the lease no more.
        self.orphaned = Event()
        self._timer = Event()
        #: Set when a SIGTERM came that the supervisor did not announce.
        self._unannounced = Event()
        self._set_handlers()
        WatchedThread("callboard-parent", self._watch_parent).start()

    @property
    def hurries(self) -> bool:
        """Whether a second request has come."""
        return self._board.stops > 1

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until a stop is requested or `done` returns True."""
        # The timers' handlers of job modules stay. Without one, a job's `signal.alarm` would end the process.
        for number in forks.TIMERS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, lambda *_: self._timer.set())
        # Python handles signals only between two waits. A job module may have taken the signal's handler.
        while not (self._requested.wait(_LOOK_EVERY) or self._board.stops or done()):
            self._set_handlers()
            if self._timer.is_set():
                self._timer.clear()
                log.warning("worker.timer_ignored", reason="a job set a timer or a CPU limit of the process")
            if self._unannounced.is_set():
                self._unannounced.clear()
                log.warning(
                    "worker.sigterm_ignored", reason="the supervisor did not send it", supervisor=os.getppid()
                )

    def _set_handlers(self) -> None:
        """Handle the stop signals here, also after a job module has set handlers of its own."""
        if signal.getsignal(signal.SIGTERM) != self._on_signal:
            signal.signal(signal.SIGTERM, self._on_signal)
        # Ctrl-C reaches the whole process group. The supervisor sends SIGTERM for it. An ignored signal would
        # also be ignored by the programs that jobs start; one with a handler is not.
        if signal.getsignal(signal.SIGINT) is not ignore:
            signal.signal(signal.SIGINT, ignore)

    def _on_signal(self, *_: object) -> None:
        (self._requested if self._board.stops else self._unannounced).set()

    def _watch_parent(self) -> None:
        parent = parent_process()
        if parent is not None:
            wait([parent.sentinel])
            # A job may have closed the descriptor.
            while os.getppid() == parent.pid:
                time.sleep(_LOOK_EVERY)
            log.warning("worker.orphaned")
            self.orphaned.set()
            # The import of the jobs may hang, and no supervisor is left that would notice.
            end_at_latest(self._grace + LAST_RESORT)
            self._requested.set()


def ignore(*_: object) -> None:
    """Do nothing with a signal."""
