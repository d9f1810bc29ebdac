"""The parent of a few processes: starts them, replaces the dead, and stops them one after the other.

Its children are sessions of their own, so a Ctrl-C at the terminal reaches the parent alone, which then stops them in
order. They cannot outlive it: when it dies, however it dies, the kernel terminates them (Linux).
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

from callboard.jobs.model.clock import SYSTEM, Clock

#: A child that lived shorter than this died fast; so many fast deaths in a row, and the parent gives up.
FAST: Final = 10.0
MOST_FAST_DEATHS: Final = 5
BACK_OFF: Final = 0.5
_LOOK_EVERY: Final = 1.0
_LOOK_EVERY_AT_START: Final = 0.05
#: How long after the second signal a child may take. Seconds.
_HURRY: Final = 3.0
_PR_SET_PDEATHSIG: Final = 1

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Child:
    """A process in the parent's care. `patience`: seconds it is given to stop before it is killed."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    patience: float
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    restart_at: float = 0.0
    fast_deaths: int = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, now: float) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            self.command,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - the parent has one thread
        )
        self.started_at = now
        log.debug("process.started", process=self.name, pid=self.process.pid)

    def signal(self, number: int) -> None:
        """Send a signal to it; SIGKILL to all of its session."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)


class Signals:
    """Counts what asks the parent to stop, and wakes it for that and for the death of a child."""

    def __init__(self) -> None:
        self.stops = 0

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        asks = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._stop)
        self._before: dict[int, Any] = {
            number: signal.signal(number, act) for number, act in {**asks, signal.SIGCHLD: _heard}.items()
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float) -> None:
        """Sleep this long, or until a signal comes."""
        readable, _, _ = select.select([self._reader], [], [], max(0.0, seconds))
        if readable:
            self._reader.recv(4096)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1


@dataclass(slots=True)
class Parent:
    """Keeps its children alive until a signal; `children` are started in this order, and stopped from the last to the first.

    is_ready: asked until it says yes, once; then on_ready is called.
    upkeep:   called about once a second from then on.
    back_off: the wait before a restart after a fast death, doubled with each further one. Seconds.
    """

    children: Sequence[Child]
    is_ready: Callable[[], bool]
    on_ready: Callable[[], None]
    upkeep: Callable[[], None] = lambda: None
    clock: Clock = SYSTEM
    back_off: float = BACK_OFF
    _ready: bool = field(default=False, init=False)

    def run(self) -> int:
        """Returns 0 after a stop that was asked for, 1 after a child that would not stay alive."""
        with Signals() as signals:
            try:
                return 0 if self._care(signals) else 1
            finally:
                self._stop(signals)

    def _care(self, signals: Signals) -> bool:
        for child in self.children:
            child.start(self.clock.monotonic())
        while not signals.stops:
            for child in self.children:
                if not child.alive and not self._replace(child):
                    return False
            if self._ready:
                self.upkeep()
            elif self.is_ready():
                self._ready = True
                self.on_ready()
            signals.wait(self._pause())
        return True

    def _pause(self) -> float:
        now = self.clock.monotonic()
        due = [child.restart_at - now for child in self.children if not child.alive]
        return min([_LOOK_EVERY if self._ready else _LOOK_EVERY_AT_START, *due])

    def _replace(self, child: Child) -> bool:
        """Start a child that died anew, at once or after a while; false when it is not to be kept alive."""
        now = self.clock.monotonic()
        if child.process is not None:
            code = child.process.returncode
            fast = now - child.started_at < FAST
            child.fast_deaths = child.fast_deaths + 1 if fast else 0
            child.process = None
            if child.fast_deaths >= MOST_FAST_DEATHS:
                log.error("process.gave_up", process=child.name, code=code, deaths=child.fast_deaths)
                return False
            wait = self.back_off * 2 ** (child.fast_deaths - 1) if fast else 0.0
            child.restart_at = now + wait
            log.warning("process.died", process=child.name, code=code, restart_in=f"{wait:g}s")
        if now >= child.restart_at:
            child.start(now)
        return True

    def _stop(self, signals: Signals) -> None:
        """Stop one after the other. A second signal asks all at once and hurries them; a third kills."""
        before = signals.stops
        for child in reversed(self.children):
            child.signal(signal.SIGTERM)
            deadline = self.clock.monotonic() + child.patience
            hurried = False
            while child.alive and self.clock.monotonic() < deadline and signals.stops < before + 2:
                if signals.stops > before and not hurried:
                    hurried = True
                    deadline = min(deadline, self.clock.monotonic() + _HURRY)
                    for each in self.children:
                        each.signal(signal.SIGTERM)
                signals.wait(min(0.2, deadline - self.clock.monotonic()))
            if child.alive:
                log.warning("process.killed", process=child.name)
                child.signal(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Let the signal do what it is wanted for: wake the parent."""


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does before it becomes its program: ask the kernel for SIGTERM when its parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # it died before the kernel was asked
            os._exit(1)

    return ask
