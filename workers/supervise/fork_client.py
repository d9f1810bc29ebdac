"""Starts the fork server of a worker, asks it for processes, and starts another when it has died."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from callboard.jobs.model.basics.clock import SYSTEM
from callboard.workers.fork_server import EXIT_THREADS, FORK, IGNORED, LONGEST_PID, READY

#: The server must have loaded its modules after this time, and forked after that time. Seconds.
_LOADED_WITHIN: Final = 20.0
_FORKED_WITHIN: Final = 5.0
_ENDS_WITHIN: Final = 2.0
#: How often the supervisor does its other work while it waits for the server. Seconds.
_STEP: Final = 0.2
#: After so many failures in a row, the server is not started again.
_MOST_FAILURES: Final = 2
_PR_SET_CHILD_SUBREAPER: Final = 36

log = structlog.get_logger(__name__)


class ForkRefused(OSError):
    """The system gives no process: a limit of processes or of memory is reached. The server works on."""


class ForkClient:
    """The supervisor's side of the fork server. Linux only: elsewhere it never forks.

    wanted:    False: it never forks.
    meanwhile: is called several times a second while the server is waited for. The supervisor sets it.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self._server: _Server | None = None
        self._failures = 0
        self._works = wanted and sys.platform.startswith("linux")

    def start(self) -> None:
        """Start the server. It loads its modules while this process goes on."""
        if self._works:
            try:
                self._server = _Server()
            except OSError as error:
                self._failed(error)

    def fork(self, fds: Sequence[int]) -> int | None:
        """Return the pid of a new child of this process; None if there is no server.

        fds: the descriptors that the child gets.
        Raises ForkRefused when the system gives no process.
        """
        while self._works:
            try:
                self._server = self._server or _Server()
                pid = self._server.fork(fds, self.meanwhile)
            except ForkRefused:
                raise
            except OSError as error:
                self._failed(error)
            else:
                self._failures = 0
                return pid
        return None

    def stop(self) -> None:
        """End the server. Its children are not ended."""
        if self._server is not None:
            # While it loads its modules, it does not notice that nobody needs it.
            self._server.end(_ENDS_WITHIN if self._server.ready else 0)
            self._server = None

    def _failed(self, error: OSError) -> None:
        """End the server after a failure. A child that it may have made gets nothing to run, and ends."""
        self._failures += 1
        # One that hangs does not end by itself.
        within = 0 if isinstance(error, TimeoutError) else _ENDS_WITHIN
        code = self._server.end(within) if self._server else None
        self._server = None
        self._works = code != EXIT_THREADS and self._failures < _MOST_FAILURES
        log.warning(
            "worker.fork_server_lost",
            reason="a thread runs in it" if code == EXIT_THREADS else str(error),
            then="another is started" if self._works else "children are started without it",
        )


class _Server:
    """One process of the fork server, and the socket to it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            program = (
                f"import sys; sys.path[:] = {sys.path!r};"
                f" from callboard.workers.fork_server import main; main({theirs.fileno()})"
            )
            # Those of this interpreter, as multiprocessing passes them on.
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
            # Ctrl-C goes to the whole process group. The server inherits the block until it ignores them.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, *flags, "-c", program],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._channel.settimeout(_STEP)
        #: Whether it has loaded its modules and served a request.
        self.ready = False

    def fork(self, fds: Sequence[int], meanwhile: Callable[[], object]) -> int:
        """Return the pid of a new child of this process. Raises OSError if there is none."""
        if not self.ready:
            if self._receive(len(READY), _LOADED_WITHIN, meanwhile) != READY:
                raise ConnectionError("it ended while it loaded its modules")
            self.ready = True
        with _adopting():
            socket.send_fds(self._channel, [FORK], fds)
            pid = int(self._receive(LONGEST_PID, _FORKED_WITHIN, meanwhile) or 0)
        if not pid:
            raise ConnectionError("it ended")
        if pid < 0:
            raise ForkRefused(-pid, os.strerror(-pid))
        # Raises ChildProcessError if the kernel has not made it a child of this process.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return pid

    def _receive(self, size: int, seconds: float, meanwhile: Callable[[], object]) -> bytes:
        """Return the next message; nothing when the server has ended. Raises TimeoutError after this time."""
        deadline = SYSTEM.monotonic() + seconds
        while True:
            try:
                return self._channel.recv(size)
            except TimeoutError:
                if SYSTEM.monotonic() > deadline:
                    raise TimeoutError(f"it did not answer within {seconds:g} s") from None
            meanwhile()

    def end(self, seconds: float) -> int:
        """End the server, by force after so many seconds, and return its exit code."""
        self._channel.close()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        self._process.kill()
        return self._process.wait()


@contextmanager
def _adopting() -> Iterator[None]:
    """During the block, this process becomes the parent of descendants that lose theirs.

    Only then: a daemon that a job starts belongs to init.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
