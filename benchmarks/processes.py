"""Start and stop the processes of a benchmark, and read their CPU seconds and memory from the kernel."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_STOP_TIMEOUT = 60.0
_LOG_LINES = 20


class Running:
    """A started process with its own session and log file.

    stderr: the descriptor that it writes its errors to; None: its log file.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
        stderr: int | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out if stderr is None else stderr,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def check(self) -> None:
        """Raise RuntimeError, with the last lines of its log, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise RuntimeError(f"{self.log.stem} ended with {code}:\n" + "\n".join(lines))

    def tree(self) -> list[psutil.Process]:
        """Return the process and all its descendants."""
        try:
            top = psutil.Process(self.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """Send SIGTERM and wait, then send SIGKILL to what is left of its process group."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(_STOP_TIMEOUT)


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    stderr: int | None = None,
) -> Iterator[Running]:
    """Run a process until the block ends."""
    process = Running(command, log, environment, folder, stderr)
    try:
        yield process
    finally:
        process.end()


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU seconds of the processes, user and system, and of children they have waited for."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def resident_mib(process: psutil.Process) -> float:
    """Return the resident memory of a process in MiB, with shared libraries."""
    return float(process.memory_info().rss) / 2**20


def proportional_mib(process: psutil.Process) -> float:
    """Return the memory of a process in MiB, of shared pages its part: the sum over processes is exact."""
    return float(process.memory_full_info().pss) / 2**20
