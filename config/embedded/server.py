"""A server from a wheel, in a folder of its own: started once, found by everyone, stopped by the last one out.

The folder holds the data, the log, the socket and two locks. The socket's path follows from the folder, so a URL stays
true over restarts, and there are no ports to collide. What counts as running is what answers on the socket;
process ids are never written down, for after a crash they may be another's.

Every user holds a shared lock that the kernel drops when the user dies. The one that leaves last stops the server: after a
`kill -9` of whoever started it the server stays up for those who use it, or for the next command to find.
"""

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Final

import psutil
import structlog

from callboard.config.embedded.lock import Usage, exclusive
from callboard.config.embedded.processes import end, wait_until, working_in
from callboard.jobs.errors import Unavailable

_log = structlog.get_logger(__name__)

#: What a server sees of the environment: nothing that could change its settings.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}
#: Longer than a start after a crash takes on a slow disk, with all of max_wal_size to replay.
_PATIENCE: Final = timedelta(minutes=3)
_LOG_LIMIT: Final = 10_000_000
_LOG_LINES: Final = 5
#: sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero.
_SOCKET_PATH_LIMIT: Final = 103


class Server(ABC):
    """One server in `folder`; not to be shared between threads."""

    name: ClassVar[str]
    program: ClassVar[str]
    socket_name: ClassVar[str]
    #: The signals that stop it, the gentlest first, each with the seconds it is given.
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._usage = Usage(folder / "use.lock")
        self._child: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers when it runs; the same after every restart."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it is up and takes commands."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make what it needs before it can start; whole or not at all. No process of it is alive."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its arguments, to run in the foreground."""

    @property
    def socket_folder(self) -> Path:
        """The server's folder, or a short one under /tmp when that path does not fit a socket or a URL."""
        own = self.folder / self.socket_name
        if len(os.fsencode(own)) <= _SOCKET_PATH_LIMIT and not set(":,") & set(str(own)):
            return self.folder
        digest = sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(f"/tmp/callboard-{os.geteuid()}-{digest}")  # noqa: S108 - made closed, its owner checked

    def ensure(self) -> bool:
        """Have it running and be one of its users until `leave`; true when this call started it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder / "start.lock", patience=_PATIENCE):
                self._usage.join()
                try:
                    return self._ensure()
                except BaseException:
                    self._usage.leave()
                    raise
        except OSError as error:
            raise Unavailable(f"{self.name} cannot be kept in {self.folder}: {error}") from error

    def leave(self) -> bool:
        """Use it no more; the last user stops it. True when this call did."""
        if not self._usage.joined or not self.folder.is_dir():
            return False
        with exclusive(self.folder / "start.lock", patience=_PATIENCE):
            last = self._usage.leave()
            if last:
                self._stop()
            return last

    def stop(self) -> None:
        """Stop it now, whoever started it or uses it."""
        if self.folder.is_dir():
            with exclusive(self.folder / "start.lock", patience=_PATIENCE):
                self._usage.leave()
                self._stop()

    def _ensure(self) -> bool:
        if self._answers():
            return False
        if self._processes():
            # its starter was killed in the middle, or it recovers from a crash; without its data it is a stray
            patience = _PATIENCE.total_seconds() if self.data.exists() else 0
            wait_until(lambda: self._answers() or not self._processes(), patience)
            if self._answers():
                return False
            self._stop()
        self._prepare()
        self._start()
        return True

    def _start(self) -> None:
        log = self.folder / "server.log"
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(self.folder / "server.log.1")
        with log.open("ab") as out:
            begin = out.tell()
            # a session of its own: Ctrl-C at the terminal is for us, not for the server
            self._child = subprocess.Popen(  # noqa: S603 - a program of the wheel
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.data,
                env=ENVIRONMENT,
                start_new_session=True,
                umask=0o077,
            )
        try:
            wait_until(lambda: self._answers() or not self._child_runs(), _PATIENCE.total_seconds())
            if not self._child_runs() or not self._answers():
                raise Unavailable(f"{self.name} did not start in {self.folder}: {_last_lines(log, begin)}")
        except BaseException:
            self._stop()
            raise
        _log.info("server.started", server=self.name, folder=str(self.folder))

    def _stop(self) -> None:
        if self._processes():
            if not end(self._processes, self.stop_signals):
                raise Unavailable(f"{self.name} in {self.folder} does not stop, not even by SIGKILL")
            _log.info("server.stopped", server=self.name, folder=str(self.folder))
        self._child = None
        if self.socket_folder != self.folder:
            with suppress(OSError):
                self.socket_folder.rmdir()

    def _child_runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _processes(self) -> list[psutil.Process]:
        found = working_in(self.data, self.program)
        if self._child is not None and self._child_runs() and self._child.pid not in {p.pid for p in found}:
            # started a moment ago: it has not become the program yet
            with suppress(psutil.Error):
                found.append(psutil.Process(self._child.pid))
        return found


def _last_lines(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LOG_LINES:]) or "it wrote nothing to its log"
