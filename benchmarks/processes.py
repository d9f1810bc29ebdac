"""Processes that a benchmark starts and ends, and what they cost: CPU seconds and memory, as the kernel counts them."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_PATIENCE = 60.0
_LOG_LINES = 20


class Running:
    """A process in a session of its own, with its log."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def check(self) -> None:
        """Raise, with the end of its log, when it has ended."""
        code = self._process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise RuntimeError(f"{self.log.stem} ended with {code}:\n" + "\n".join(lines))

    def tree(self) -> list[psutil.Process]:
        """It and all that descend from it."""
        try:
            top = psutil.Process(self.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """SIGTERM, and SIGKILL of whatever is left of its session."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(_PATIENCE)


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
) -> Iterator[Running]:
    """A process until the block ends."""
    process = Running(command, log, environment, folder)
    try:
        yield process
    finally:
        process.end()


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """What they have used, user and system, together with what their children had used that they have buried."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def resident_mib(process: psutil.Process) -> float:
    """Its resident memory, shared libraries included."""
    return float(process.memory_info().rss) / 2**20
