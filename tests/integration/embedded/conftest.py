"""Data folders for embedded servers, and other commands that use them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from callboard.config.embedded import EmbeddedServers
from callboard.config.embedded.server_processes import working_in

T = TypeVar("T")
ROOT = Path(__file__).parents[3]

#: A command that uses the servers until its standard input ends, and says what it had to start.
USER = """
import sys
from pathlib import Path
from callboard.config.embedded import EmbeddedServers
from callboard.config.logging import configure
configure(level="error")
embedded = EmbeddedServers(Path(sys.argv[1]), durable=False)
print(embedded.postgres.ensure(), embedded.valkey.ensure(), flush=True)
sys.stdin.read()
embedded.leave()
"""


class Command:
    """Another process that uses the servers of a folder."""

    def __init__(self, folder: Path, prefix: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", USER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )

        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout

    def started(self) -> list[str]:
        """Wait until it has the servers; which of Postgres and Valkey it had to start."""
        words = self._output.readline().split()
        assert len(words) == 2, "the command failed"
        return [name for name, word in zip(("postgres", "valkey"), words, strict=True) if word == "True"]

    def end(self) -> None:
        self._input.close()
        assert self.process.wait(60) == 0
        self._output.close()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        self._input.close()
        self._output.close()


def _processes(folder: Path) -> list[psutil.Process]:
    postgres, valkey = folder / "postgres/data", folder / "valkey/data"
    return working_in(postgres, "postgres") + working_in(valkey, "valkey-server")


def _told(processes: list[psutil.Process], ask: Callable[[psutil.Process], T]) -> list[T]:
    """What those say that are still there: a connection's own process may end meanwhile."""
    answers = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            answers.append(ask(process))
    return answers


def _leaders(folder: Path) -> list[str]:
    pids = {process.pid for process in _processes(folder)}
    told = _told(_processes(folder), lambda process: (process.name(), process.ppid()))
    return sorted(name for name, parent in told if parent not in pids)


@pytest.fixture
def processes() -> Callable[[Path], list[psutil.Process]]:
    """The processes of a folder's servers: folder -> list."""
    return _processes


@pytest.fixture
def told() -> Callable[..., list[Any]]:
    """What processes say of themselves, of those that are still there: (processes, question) -> list."""
    return _told


@pytest.fixture
def leaders() -> Callable[[Path], list[str]]:
    """The names of the servers that run in a folder; a second Postgres would be there twice."""
    return _leaders


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    """Start another process that uses the servers of a folder: (folder, prefix=()) -> Command."""
    started: list[Command] = []

    def start(folder: Path, prefix: tuple[str, ...] = ()) -> Command:
        started.append(Command(folder, prefix))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A data folder that is not made yet; its path has spaces."""
    above = Path(tempfile.mkdtemp(prefix="callboard test "))
    above.chmod(0o711)
    yield above / "data folder"
    EmbeddedServers(above / "data folder").stop()
    shutil.rmtree(above)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A data folder that was used once, to copy."""
    above = Path(tempfile.mkdtemp(prefix="callboard-cluster-"))
    above.chmod(0o711)
    used = EmbeddedServers(above / "data", durable=False)
    used.ensure(valkey=False)
    used.leave()
    yield above / "data"
    shutil.rmtree(above)


@pytest.fixture
def folder(fresh: Path, cluster: Path) -> Path:
    """A data folder that was used before: its first start is done."""
    subprocess.run(["cp", "-a", str(cluster), str(fresh)], check=True)
    return fresh


@pytest.fixture
def embedded(folder: Path) -> EmbeddedServers:
    return EmbeddedServers(folder)
