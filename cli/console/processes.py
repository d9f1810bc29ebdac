"""A parent of several processes: starts them, restarts those that die, and stops them one after the other.

Each child has a session of its own, so Ctrl-C at the terminal reaches only the parent, which stops the
children in order. On Linux the children cannot outlive the parent: when it dies, even by SIGKILL, the kernel
sends them SIGTERM.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, Self

import structlog

from callboard.jobs.model.basics.clock import SYSTEM, Clock

#: A child that dies sooner than this after its start died fast. Seconds.
FAST_DEATH: Final = 10.0
#: After this many fast deaths in a row the parent gives up.
MAX_FAST_DEATHS: Final = 5
#: The wait before a restart after the first fast death. Seconds.
BACK_OFF: Final = 0.5
#: How often the parent checks its children, and how often until they are ready. Seconds.
_CHECK_INTERVAL: Final = 1.0
_CHECK_INTERVAL_AT_START: Final = 0.05
#: How long a child may still run after the second stop signal. Seconds.
_HURRIED_STOP_TIMEOUT: Final = 3.0
_PR_SET_PDEATHSIG: Final = 1

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Child:
    """One child process.

    stop_timeout: how many seconds it may take to stop before it is killed
    may_begin:    called repeatedly until it returns True; then its standard input ends, which it waits for
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_timeout: float
    may_begin: Callable[[], bool] | None = None
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    restart_at: float = 0.0
    fast_deaths: int = 0

    @property
    def alive(self) -> bool:
        """Return whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self, now: float) -> None:
        """Start the process; `now` is the monotonic time in seconds."""
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            self.command,
            env=dict(self.environment),
            stdin=subprocess.PIPE if self.may_begin else subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_terminate_with_parent(os.getpid()),  # noqa: PLW1509 - the parent has one thread
        )
        self.started_at = now
        log.debug("process.started", process=self.name, pid=self.process.pid)

    def let_begin(self) -> None:
        """End the standard input of a process that waits for it, if it may begin."""
        if self.process and self.process.stdin and self.may_begin and self.may_begin():
            self.process.stdin.close()
            self.process.stdin = self.may_begin = None

    def signal(self, number: int) -> None:
        """Send a signal to the process. SIGKILL goes to all processes of its group."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)


class Signals:
    """A context that counts stop signals and wakes `wait` on a stop signal or a child's death."""

    def __init__(self) -> None:
        self.stops = 0

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        stop_handlers = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._stop)
        self._before: dict[int, Any] = {
            number: signal.signal(number, handler)
            for number, handler in {**stop_handlers, signal.SIGCHLD: _wake}.items()
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float) -> None:
        """Sleep for this many seconds, or until a signal arrives."""
        readable, _, _ = select.select([self._reader], [], [], max(0.0, seconds))
        if readable:
            self._reader.recv(4096)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1


@dataclass(slots=True)
class Parent:
    """Keeps its children alive until a stop signal.

    children: started in this order, stopped in reverse order
    is_ready: called repeatedly until it returns True; then on_ready is called once
    upkeep:   called about once a second after that
    back_off: the wait before a restart after a fast death, doubled with each further fast death. Seconds.
    """

    children: Sequence[Child]
    is_ready: Callable[[], bool]
    on_ready: Callable[[], None]
    upkeep: Callable[[], None] = lambda: None
    clock: Clock = SYSTEM
    back_off: float = BACK_OFF
    _ready: bool = field(default=False, init=False)

    def run(self) -> int:
        """Run until a stop signal and return 0.

        Return the exit code of a child that fails before all are ready, and 1 if a child keeps dying fast.
        """
        with Signals() as signals:
            try:
                return self._supervise(signals)
            finally:
                self._stop(signals)

    def _supervise(self, signals: Signals) -> int:
        while not signals.stops:
            for child in self.children:
                if not child.alive and (code := self._replace(child)):
                    return code
                child.let_begin()
            if self._ready:
                self.upkeep()
            elif self.is_ready():
                self._ready = True
                self.on_ready()
            signals.wait(self._pause())
        return 0

    def _pause(self) -> float:
        now = self.clock.monotonic()
        due = [child.restart_at - now for child in self.children if child.restart_at > now]
        return min([_CHECK_INTERVAL if self._ready else _CHECK_INTERVAL_AT_START, *due])

    def _replace(self, child: Child) -> int:
        """Start a child, or restart a dead one, now or after its back-off.

        Return 0, or the exit code to end with: the child cannot work.
        """
        now = self.clock.monotonic()
        if child.process is not None:
            code = child.process.returncode
            fast = not self._ready or now - child.started_at < FAST_DEATH
            child.fast_deaths = child.fast_deaths + 1 if fast else 0
            child.process = None
            if code > 0 and not self._ready:
                # Its error is in the log. Until it is mended, a restart fails in the same way.
                log.error("process.gave_up", process=child.name, code=code, reason="it cannot start")
                return code
            if child.fast_deaths >= MAX_FAST_DEATHS:
                log.error(
                    "process.gave_up",
                    process=child.name,
                    code=code,
                    deaths=child.fast_deaths,
                    reason="it dies too soon after each start",
                )
                return 1
            wait = self.back_off * 2 ** (child.fast_deaths - 1) if fast else 0.0
            child.restart_at = now + wait
            log.warning("process.died", process=child.name, code=code, restart_in=f"{wait:g}s")
        if now >= child.restart_at:
            child.start(now)
        return 0

    def _stop(self, signals: Signals) -> None:
        """Stop the children one after the other.

        A second stop signal sends SIGTERM to all at once and shortens their time; a third kills them.
        """
        before = signals.stops
        for child in reversed(self.children):
            child.signal(signal.SIGTERM)
            deadline = self.clock.monotonic() + child.stop_timeout
            hurried = False  # whether the second stop signal has been handled
            while child.alive and self.clock.monotonic() < deadline and signals.stops < before + 2:
                if signals.stops > before and not hurried:
                    hurried = True
                    deadline = min(deadline, self.clock.monotonic() + _HURRIED_STOP_TIMEOUT)
                    for each in self.children:
                        each.signal(signal.SIGTERM)
                signals.wait(min(0.2, deadline - self.clock.monotonic()))
            if child.alive:
                log.warning("process.killed", process=child.name)
                child.signal(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. A handler must exist for the signal to wake the parent through the wakeup socket."""


def _terminate_with_parent(parent: int) -> Callable[[], None] | None:
    """Return a function for the child to call before exec. The kernel then sends SIGTERM when `parent` dies.

    Return None on systems other than Linux, which have no such request.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def request_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # the parent died before the request
            os._exit(1)

    return request_signal
