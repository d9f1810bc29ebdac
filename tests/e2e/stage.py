"""The stage of the end-to-end tests: real processes of Callboard, in a folder of their own, that can be
killed.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.request import urlopen
from uuid import UUID

import orjson
import psutil
from sqlalchemy import text

from callboard.config.embedded import EmbeddedServers
from callboard.config.embedded.embedded_server import EmbeddedServer
from callboard.config.settings import sqlalchemy_url
from callboard.jobs.attempts.worker import Worker
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.request import job_request
from callboard.jobs.platform import Platform
from tests.e2e import stage_jobs
from tests.integration.core.factories import enqueue_all, enqueue_one

T = TypeVar("T")
HERE = Path(__file__).parent
PYTHON = Source("python")
NOTHING: Mapping[str, str] = MappingProxyType({})
#: What a test waits for at most, before it fails. Seconds.
PATIENCE = 90.0
_LOG_LINES = 40


def until(holds: Callable[[], T], patience: float = PATIENCE) -> T:
    """The first true answer; the test fails when none comes in time."""
    deadline = time.monotonic() + patience
    while not (answer := holds()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return answer


class Process:
    """One `callboard run ...`, or `callboard up`, in a session of its own, with its log."""

    def __init__(
        self, role: str, folder: Path, environment: dict[str, str], *options: str, stalled: bool = False
    ) -> None:
        self.log = folder / f"{role}-{len(list(folder.glob('*.log')))}.log"
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "callboard", *(["up"] if role == "up" else ["run", role]), *options],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE if stalled else out,
                start_new_session=True,
            )
        #: Its stderr, when nobody reads it.
        self.stalled = self._process.stderr
        self.pid = self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send to this process alone."""
        self._process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Send to this process and its children."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """kill -9, this process alone."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def kill_all(self) -> None:
        """kill -9 of this process and its children, as when a host dies."""
        self.send_all(signal.SIGKILL)
        self._process.wait(PATIENCE)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ends(self, patience: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        return self._process.wait(patience)

    def events(self, name: str) -> list[dict[str, object]]:
        """What it and its children have logged under this name."""
        # What jobs print to stdout, without the end of a line, may stand before a log line in the same file.
        lines = re.findall(rb'\{"timestamp":.*\}$', self.log.read_bytes(), re.MULTILINE)
        found = [orjson.loads(line) for line in lines]
        return [event for event in found if event["event"] == name]

    def metric(self, line: str) -> float:
        """A sample of its metrics endpoint, by name and labels; 0 when it has not been counted."""
        port = until(lambda: self.events("metrics.serving"))[0]["port"]
        # our own, on the loopback
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            samples = [row.rpartition(" ") for row in answer.read().decode().splitlines()]
        return sum(float(value) for name, _, value in samples if name == line)


class Stage:
    """Starts processes on one database and one Redis, and looks at what became of the jobs."""

    def __init__(self, platform: Platform, database_url: str, redis_url: str) -> None:
        self.platform = platform
        self.folder = Path(tempfile.mkdtemp(prefix="callboard-stage-"))
        shutil.copy(HERE / "stage_jobs.py", self.folder)
        self._ledger = self.folder / "ledger"
        self._ledger.touch()
        self._settings = {
            "database_url": database_url,
            "redis_url": redis_url,
            "secret_key": "only for these tests",
            "data_dir": str(self.folder / "data"),
            "jobs": "stage_jobs",
            "queues": "default,async",
            "log_format": "json",
            "test_ledger": str(self._ledger),
        }
        self.processes: list[Process] = []
        actors = (value for value in vars(stage_jobs).values() if hasattr(value, "actor_name"))
        platform.catalogue.publish([define(actor).type for actor in actors])

    def start(
        self,
        role: str,
        *options: str,
        extra: Mapping[str, str] = NOTHING,
        stalled: bool = False,
        **settings: object,
    ) -> Process:
        """Start one process with these CALLBOARD_* settings and no others; it is not waited for.

        options: of `callboard run`.
        extra:   further variables of its environment.
        stalled: nobody reads its stderr.
        """
        environment = self.environment(**settings) | dict(extra)
        process = Process(role, self.folder, environment, *options, stalled=stalled)
        self.processes.append(process)
        return process

    def environment(self, **settings: object) -> dict[str, str]:
        """What a process gets to see: these CALLBOARD_* settings and no others."""
        given = {f"CALLBOARD_{key}".upper(): str(value) for key, value in (self._settings | settings).items()}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CALLBOARD_")}
        return clean | given

    def worker(
        self, *, processes: int = 1, extra: Mapping[str, str] = NOTHING, **settings: object
    ) -> Process:
        """Start a worker, and wait until all its children hold a lease."""
        process = self.start("worker", extra=extra, stalled=False, processes=processes, **settings)
        until(lambda: not process.alive or len(self.leases(process)) == processes)
        assert process.alive, process.log.read_text()
        return process

    def leases(self, process: Process) -> list[Worker]:
        """The leases that children of this worker hold; they name a child's pid."""
        with suppress(psutil.NoSuchProcess):
            children = {child.pid for child in psutil.Process(process.pid).children()}
            return [worker for worker in self.platform.workers.live() if worker.pid in children]
        return []

    def enqueue(self, name: str, **kwargs: object) -> UUID:
        return self.enqueue_with(name, kwargs)

    def enqueue_with(self, name: str, kwargs: dict[str, object], **options: object) -> UUID:
        request = job_request({"name": name, "kwargs": kwargs, **options})
        return enqueue_one(self.platform, request).id

    def enqueue_many(self, name: str, count: int) -> list[UUID]:
        """Jobs with n = 0, 1, 2 ..."""
        requests = [job_request({"name": name, "kwargs": {"n": n}}) for n in range(count)]
        return [receipt.id for receipt in enqueue_all(self.platform, requests)]

    def job(self, job_id: UUID) -> Job:
        return self.platform.jobs.get(job_id)

    def states(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter({str(state): number for state, number in self._count("state")})

    def attempts(self) -> Counter[int]:
        """How many jobs have made so many attempts."""
        return Counter({int(attempt): number for attempt, number in self._count("attempt")})

    def crashes(self) -> Counter[int]:
        """How many jobs have been blamed for so many crashes."""
        return Counter({int(crashes): number for crashes, number in self._count("crash_count")})

    def starts(self) -> Counter[str]:
        """How often each job has begun."""
        return Counter(self._ledger.read_text().split())

    def wait_started(self, count: int) -> None:
        """Wait until so many attempts have begun."""
        until(lambda: self.starts().total() >= count)

    def end(self) -> None:
        """Kill whatever still lives of what was started, orphans too, and remove the folder."""
        sessions = {process.pid for process in self.processes}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) in sessions:
                    process.kill()
        for started in self.processes:
            started.ends()
            # pytest shows it when the test has failed
            print(f"--- {started.log.name}", *started.log.read_text().splitlines()[-_LOG_LINES:], sep="\n")
        shutil.rmtree(self.folder)

    def _count(self, column: str) -> list[tuple[Any, int]]:
        statement = text(f"SELECT {column}, count(*) FROM callboard.jobs GROUP BY 1")
        with self.platform.database.autocommit() as connection:
            return [(row[0], row[1]) for row in connection.execute(statement)]


@contextmanager
def staged(platform: Platform, database_url: str, redis_url: str) -> Iterator[Stage]:
    """A stage that leaves nothing behind."""
    stage = Stage(platform, database_url, redis_url)
    try:
        yield stage
    finally:
        stage.end()


@contextmanager
def own_servers() -> Iterator[EmbeddedServers]:
    """The means to a Postgres and a Valkey of the test's own, which it may kill; started by their `ensure`."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-away-"))
    # root's Postgres runs as nobody, and gets through without special powers
    folder.chmod(0o711)
    servers = EmbeddedServers(folder)
    try:
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(folder)


@contextmanager
def own_stage(servers: EmbeddedServers, database_url: str, redis_url: str) -> Iterator[Stage]:
    """A stage over other servers than the run's, migrated."""
    with closing(Platform(sqlalchemy_url(database_url), redis_url)) as platform:
        platform.migrations.upgrade()
        with staged(platform, database_url, redis_url) as stage:
            yield stage


def strike(server: EmbeddedServer, number: signal.Signals) -> None:
    """Send a signal to a server's first process, and wait until nothing of it is left."""
    processes = server._processes()
    known = {process.pid for process in processes}
    for process in processes:
        # a connection's process may end meanwhile
        with suppress(psutil.Error):
            if process.ppid() not in known:
                process.send_signal(number)
    until(lambda: not server._processes())
