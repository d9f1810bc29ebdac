"""A server from a wheel in its own folder. The first user starts it, the last user stops it.

The folder holds the data, the log, the socket and two lock files. The socket's path follows from the folder,
so the URL is the same after every restart, and no ports can collide. A server counts as running if it answers
on its socket. Process ids are not stored, because after a crash another process may have the same id.

Each user holds a shared lock, which the kernel releases when the user dies. The last user to leave stops the
server. If the process that started the server is killed, the server keeps running for its other users and
for the next command.
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
from typing import TYPE_CHECKING, ClassVar, Final

import structlog

from callboard.config.embedded.lock import Usage, exclusive
from callboard.config.embedded.server_processes import end, wait_until, working_in
from callboard.jobs.errors import Unavailable

if TYPE_CHECKING:
    import psutil

_log = structlog.get_logger(__name__)

#: The environment of a server: it has nothing that could change the server's settings.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}
#: How long a start may take: long enough to replay all of max_wal_size after a crash on a slow disk.
_START_TIMEOUT: Final = timedelta(minutes=3)
_LOG_LIMIT: Final = 10_000_000
_LOG_LINES: Final = 5
#: A socket path has at most 108 bytes on Linux and 104 on macOS, with the final zero byte.
_SOCKET_PATH_LIMIT: Final = 103


class EmbeddedServer(ABC):
    """One server in `folder`. An instance must not be shared between threads."""

    name: ClassVar[str]
    program: ClassVar[str]
    socket_name: ClassVar[str]
    #: The signals that stop the server, the mildest first, each with the seconds to wait after it.
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._usage = Usage(folder / "use.lock")
        self._child: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Return the server's URL. It is the same after every restart."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether the server accepts commands."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create what the server needs before it starts, atomically. No process of the server is alive."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the program and its arguments to run in the foreground."""

    @property
    def socket_folder(self) -> Path:
        """Return the socket's folder: `folder`, or one under /tmp if that path does not fit a socket."""
        own = self.folder / self.socket_name
        if len(os.fsencode(own)) <= _SOCKET_PATH_LIMIT and not set(":,") & set(str(own)):
            return self.folder
        digest = sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(f"/tmp/callboard-{os.geteuid()}-{digest}")  # noqa: S108 - created closed, owner checked

    def ensure(self) -> bool:
        """Use the server until `leave`; start it if it does not run. Return whether this call started it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder / "start.lock", timeout=_START_TIMEOUT):
                self._usage.join()
                try:
                    return self._ensure()
                except BaseException:
                    self._usage.leave()
                    raise
        except OSError as error:
            raise Unavailable(f"{self.name} cannot run in {self.folder}: {error}") from error

    def leave(self) -> bool:
        """Leave the server, and stop it if it has no other users. Return whether this call stopped it."""
        if not self._usage.joined or not self.folder.is_dir():
            return False
        with exclusive(self.folder / "start.lock", timeout=_START_TIMEOUT):
            last = self._usage.leave()
            if last:
                self._stop()
            return last

    def stop(self) -> None:
        """Stop the server now, even if other processes use it."""
        if self.folder.is_dir():
            with exclusive(self.folder / "start.lock", timeout=_START_TIMEOUT):
                self._usage.leave()
                self._stop()

    def _ensure(self) -> bool:
        if self._answers():
            return False
        if self._processes():
            # Its parent was killed during the start, or it recovers from a crash: it gets time to answer.
            # Without its data it can never answer.
            seconds = _START_TIMEOUT.total_seconds() if self.data.exists() else 0
            wait_until(lambda: self._answers() or not self._processes(), seconds)
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
            # a session of its own: Ctrl-C at the terminal must not reach the server
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
            wait_until(lambda: self._answers() or not self._child_runs(), _START_TIMEOUT.total_seconds())
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

    def _processes(self) -> "list[psutil.Process]":
        import psutil

        found = working_in(self.data, self.program)
        if self._child is not None and self._child_runs() and self._child.pid not in {p.pid for p in found}:
            # just started: the child has not executed the program yet
            with suppress(psutil.Error):
                found.append(psutil.Process(self._child.pid))
        return found


def _last_lines(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LOG_LINES:]) or "its log is empty"
