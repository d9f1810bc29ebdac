"""Where contenders meet: one Postgres that is as durable as in production, one Valkey, and the processes they start there.

Everything lives in a temporary folder and goes with it. Benchmarks speak SQL and Redis for themselves: they look at the
platform from outside.
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
from callboard.config.embedded.processes import working_in
from callboard.config.settings import sqlalchemy_url
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.platform import Platform
from callboard.jobs.postgres.table_base import Base

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[1]
#: What every contender gets: processes and threads of each.
PROCESSES: Final = 2
THREADS: Final = 8
JOBS: Final = "benchmarks.our_jobs"
SECRET_KEY: Final = "only for this benchmark"
PATIENCE: Final = 300.0
_TABLES: Final = ", ".join(table.fullname for table in Base.metadata.sorted_tables)


class Arena:
    """The servers of a run, and means to start contenders on them and to look at what they do."""

    def __init__(self, folder: Path, urls: ServerUrls, platform: Platform, *, quick: bool) -> None:
        self.folder = folder
        self.urls = urls
        #: Services over the run's servers, in this process.
        self.platform = platform
        self.quick = quick
        self._environment: dict[str, str] = {}
        self.redis = redis.Redis.from_url(urls.redis_url)
        self.counters = Counters(platform.database, self.redis, folder / "postgres" / "server.log")
        self._running: dict[str, list[Running]] = {}

    @classmethod
    @contextmanager
    def open(cls, *, quick: bool = False) -> Iterator[Self]:
        """An arena with servers of its own, migrated; all of it is gone at the end."""
        with tempfile.TemporaryDirectory(prefix="callboard-bench-") as name:
            # root's Postgres runs as nobody, and gets through without special powers
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
        """How many: `quick` only shows that it runs."""
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

    # ---- processes ----------------------------------------------------------------------------------------------

    def env(self, **settings: object) -> dict[str, str]:
        """What a process of Callboard gets to see: the arena's servers, and these CALLBOARD_* settings alone."""
        given = {
            "database_url": self.urls.database_url,
            "redis_url": self.urls.redis_url,
            "secret_key": SECRET_KEY,
            "data_dir": self.folder / "data",
            "jobs": JOBS,
            "processes": PROCESSES,
            "threads": THREADS,
            "log_level": "warning",
        } | settings
        return self._clean() | {f"CALLBOARD_{key}".upper(): str(value) for key, value in given.items()}

    def rival_env(self) -> dict[str, str]:
        """What another project's process gets to see."""
        given = {"BENCH_REDIS_URL": self.urls.redis_url, "BENCH_DATABASE_URL": self.urls.database_url}
        return self._clean() | given

    @contextmanager
    def given(self, environment: Mapping[str, str]) -> Iterator[None]:
        """Add to what all processes get to see that are started within the block."""
        before, self._environment = self._environment, {**self._environment, **environment}
        try:
            yield
        finally:
            self._environment = before

    @contextmanager
    def start(
        self, role: str, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> Iterator[Running]:
        """Run a command until the block ends; its CPU seconds count under this role."""
        words = [str(word) for word in command]
        with running(words, self.folder / f"{role}.log", environment, self.folder) as process:
            self._running.setdefault(role, []).append(process)
            try:
                yield process
            finally:
                self._running[role].remove(process)

    @contextmanager
    def callboard(self, role: str, **settings: object) -> Iterator[Running]:
        """`callboard run ROLE` until the block ends; it is not waited for."""
        command = [sys.executable, "-m", "callboard", "run", role]
        with self.start(role, command, self.env(**settings)) as process:
            yield process

    @contextmanager
    def ready(self, **settings: object) -> Iterator[Running]:
        """A scheduler, and a worker whose children all hold a lease; gives the worker."""
        with self.callboard("scheduler", **settings), self.callboard("worker", **settings) as worker:
            wanted = int(str(settings.get("processes", PROCESSES)))

            def hired() -> bool:
                worker.check()
                return len(self.platform.workers.live()) == wanted

            self.until(hired, every=0.1)
            yield worker

    def until(self, holds: Callable[[], T], patience: float = PATIENCE, *, every: float = 0.02) -> T:
        """The first true answer; raises TimeoutError."""
        deadline = time.monotonic() + patience
        while not (answer := holds()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {patience:.0f} s")
            time.sleep(every)
        return answer

    # ---- what it costs ------------------------------------------------------------------------------------------

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far by the servers, and by what was started here and still runs, by role."""
        used = {
            "postgres": cpu_seconds(working_in(self.folder / "postgres" / "data", "postgres")),
            "valkey": cpu_seconds(working_in(self.folder / "valkey" / "data", "valkey-server")),
        }
        for role, processes in self._running.items():
            used[role] = cpu_seconds(one for process in processes for one in process.tree())
        return used

    def cpu_us(self, before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
        """CPU microseconds for each of `count`, in all and by role, as figures: `cpu_us`, `cpu_us_worker` ..."""
        spent = {role: (after[role] - before[role]) / count * 1e6 for role in after if role in before}
        spent = {role: value for role, value in spent.items() if value >= 0.05}
        return {"cpu_us": sum(spent.values()), **{f"cpu_us_{role}": value for role, value in spent.items()}}

    def sql(self, statement: str, **values: Any) -> Any:
        """Run a statement; returns its rows, or None."""
        with self.platform.database.autocommit() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    def _clean(self) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("CALLBOARD_", "BENCH_"))
        }
        paths = filter(None, (str(ROOT), kept.get("PYTHONPATH")))
        return kept | {"PYTHONPATH": os.pathsep.join(paths)} | self._environment
