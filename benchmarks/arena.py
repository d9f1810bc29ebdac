"""The servers and processes of a benchmark run: a Postgres as durable as in production, and a Valkey.

Everything is in a temporary folder, which is removed at the end. Benchmarks use SQL and Redis directly,
because they observe the platform from outside.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import redis
from sqlalchemy import text

from benchmarks.counters import Counters
from benchmarks.processes import Running, cpu_seconds, running
from callboard.config.embedded import EmbeddedServers, ServerUrls
from callboard.config.embedded.server_processes import working_in
from callboard.config.settings import sqlalchemy_url
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.platform import Platform
from callboard.jobs.tables import METADATA

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[1]
#: Every contender gets this many processes, and this many threads in each.
PROCESSES: Final = 2
THREADS: Final = 8
JOBS: Final = "benchmarks.our_jobs"
SECRET_KEY: Final = "only for this benchmark"
#: How long a measurement may take. Seconds.
TIMEOUT: Final = 300.0
_TABLES: Final = ", ".join(table.fullname for table in METADATA.sorted_tables)


class Arena:
    """The servers of a run. An arena starts contenders on them and observes the contenders."""

    def __init__(self, folder: Path, urls: ServerUrls, platform: Platform, *, quick: bool) -> None:
        self.folder = folder
        self.urls = urls
        #: The platform's services on the run's servers, in this process.
        self.platform = platform
        self.quick = quick
        self._environment: dict[str, str] = {}
        self.redis = redis.Redis.from_url(urls.redis_url)
        self.counters = Counters(platform.database, self.redis, folder / "postgres" / "server.log")
        self._running: dict[str, list[Running]] = {}

    @classmethod
    @contextmanager
    def open(cls, *, quick: bool = False) -> Iterator[Self]:
        """Yield an arena with its own servers and current tables; remove all of it at the end."""
        with tempfile.TemporaryDirectory(prefix="callboard-bench-") as name:
            # if root runs this, Postgres runs as nobody, and must be able to enter the folder
            folder = Path(name)
            folder.chmod(0o711)
            servers = EmbeddedServers(folder)
            with ExitStack() as opened:
                opened.callback(servers.stop)
                urls = servers.ensure()
                platform = opened.enter_context(
                    closing(Platform(sqlalchemy_url(urls.database_url), urls.redis_url))
                )
                platform.migrations.upgrade()
                arena = cls(folder, urls, platform, quick=quick)
                opened.callback(arena.redis.close)
                yield arena

    def size(self, full: int, quick: int) -> int:
        """Return `full`, or `quick` in a quick run, which only shows that the benchmark works."""
        return quick if self.quick else full

    def reset(self) -> None:
        """Empty all tables and Redis, and publish the jobs of the benchmarks."""
        with self.platform.database.transaction() as connection:
            connection.execute(text(f"TRUNCATE {_TABLES}"))
        self.redis.flushall()
        self.platform.catalogue.forget()
        from benchmarks import our_jobs

        actors = (value for value in vars(our_jobs).values() if hasattr(value, "actor_name"))
        self.platform.catalogue.publish([define(actor).type for actor in actors])

    # ---- processes -------------------------------------------------------------------------------

    def env(self, **settings: object) -> dict[str, str]:
        """Return the environment of a Callboard process: the arena's servers and these settings."""
        values = {
            "database_url": self.urls.database_url,
            "redis_url": self.urls.redis_url,
            "secret_key": SECRET_KEY,
            "data_dir": self.folder / "data",
            "jobs": JOBS,
            "processes": PROCESSES,
            "threads": THREADS,
            "log_level": "warning",
        } | settings
        return self._clean() | {f"CALLBOARD_{key}".upper(): str(value) for key, value in values.items()}

    def rival_env(self) -> dict[str, str]:
        """Return the environment of a process of another project."""
        urls = {"BENCH_REDIS_URL": self.urls.redis_url, "BENCH_DATABASE_URL": self.urls.database_url}
        return self._clean() | urls

    @contextmanager
    def extra_env(self, environment: Mapping[str, str]) -> Iterator[None]:
        """Add variables to the environment of every process that is started within the block."""
        before, self._environment = self._environment, {**self._environment, **environment}
        try:
            yield
        finally:
            self._environment = before

    @contextmanager
    def start(
        self,
        role: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        stderr: int | None = None,
    ) -> Iterator[Running]:
        """Run a command until the block ends. `cpu` counts its CPU seconds under this role.

        stderr: the descriptor that it writes its errors to; None: its log file.
        """
        words = [str(word) for word in command]
        with running(words, self.folder / f"{role}.log", environment, self.folder, stderr) as process:
            self._running.setdefault(role, []).append(process)
            try:
                yield process
            finally:
                self._running[role].remove(process)

    def running(self, role: str) -> Sequence[Running]:
        """Return the running processes of a role."""
        return tuple(self._running.get(role, ()))

    @contextmanager
    def callboard(self, role: str, stderr: int | None = None, /, **settings: object) -> Iterator[Running]:
        """Run `callboard run ROLE` until the block ends. Do not wait until it is ready."""
        command = [sys.executable, "-m", "callboard", "run", role]
        with self.start(role, command, self.env(**settings), stderr) as process:
            yield process

    @contextmanager
    def ready(self, **settings: object) -> Iterator[Running]:
        """Run a scheduler and a worker until the block ends. Yield the worker when its children are ready."""
        with self.callboard("scheduler", **settings), self.callboard("worker", **settings) as worker:
            wanted = int(str(settings.get("processes", PROCESSES)))

            def all_live() -> bool:
                worker.check()
                return len(self.platform.workers.live()) == wanted

            self.until(all_live, every=0.1)
            yield worker

    def until(self, condition: Callable[[], T], timeout: float = TIMEOUT, *, every: float = 0.02) -> T:
        """Poll the condition and return its first true value; raise TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not (answer := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout:.0f} s")
            time.sleep(every)
        return answer

    # ---- costs -----------------------------------------------------------------------------------

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds used so far by the servers and by each role's running processes."""
        used = {
            "postgres": cpu_seconds(working_in(self.folder / "postgres" / "data", "postgres")),
            "valkey": cpu_seconds(working_in(self.folder / "valkey" / "data", "valkey-server")),
        }
        for role, processes in self._running.items():
            used[role] = cpu_seconds(one for process in processes for one in process.tree())
        return used

    def cpu_us(self, before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
        """Return the CPU microseconds per job, in total (`cpu_us`) and by role (`cpu_us_worker` ...)."""
        spent = {role: (after[role] - before[role]) / count * 1e6 for role in after if role in before}
        spent = {role: value for role, value in spent.items() if value >= 0.05}
        return {"cpu_us": sum(spent.values()), **{f"cpu_us_{role}": value for role, value in spent.items()}}

    def sql(self, statement: str, **values: Any) -> Any:
        """Run a statement and return its rows, or None if it has none."""
        with self.platform.database.autocommit() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    def _clean(self) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("CALLBOARD_", "BENCH_"))
        }
        paths = filter(None, (str(ROOT), kept.get("PYTHONPATH")))
        return kept | {"PYTHONPATH": os.pathsep.join(paths)} | self._environment
