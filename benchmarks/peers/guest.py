"""Run a peer's programs in the arena: from the peers' venv, on the arena's Redis, in their own database."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy import make_url

from benchmarks import draining
from benchmarks.arena import ROOT, Arena
from benchmarks.harness import Contender, Figures
from benchmarks.processes import Running

VENV: Final = ROOT / ".venv-peers"
_APPS: Final = Path(__file__).parent / "apps"
_DATABASE: Final = "guest"


@dataclass(frozen=True, slots=True)
class Stay:
    """One measurement of a guest: its arena, its database, and the environment of its processes."""

    arena: Arena
    environment: dict[str, str]
    database: psycopg.Connection[TupleRow]

    @classmethod
    @contextmanager
    def begin(cls, arena: Arena) -> Iterator["Stay"]:
        """Yield a stay with an empty Redis and a new database.

        The database is dropped at the end, so that Postgres does not vacuum it later.
        """
        arena.reset()
        arena.sql(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        arena.sql(f"CREATE DATABASE {_DATABASE}")
        try:
            url = make_url(arena.urls.database_url).set(database=_DATABASE).render_as_string()
            environment = arena.rival_env() | {"BENCH_DATABASE_URL": url, "PYTHONPATH": str(_APPS)}
            environment["BENCH_LEDGER"] = str(arena.folder / "guest.ledger")
            Path(environment["BENCH_LEDGER"]).unlink(missing_ok=True)
            with psycopg.connect(url, autocommit=True) as database:
                yield cls(arena, environment, database)
        finally:
            arena.sql(f"DROP DATABASE {_DATABASE} WITH (FORCE)")

    def number(self, statement: str) -> int:
        """Return the first value of the first row."""
        row = self.database.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

    def run(self, program: str, *arguments: object) -> str:
        """Run a program of the venv to its end and return its stdout."""
        command = [str(VENV / "bin" / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.arena.folder,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}:\n{done.stderr[-2_000:]}")
        return done.stdout

    @contextmanager
    def start(self, commands: Sequence[Sequence[object]]) -> Iterator[Running]:
        """Run programs of the venv until the block ends. Yield the first."""
        with ExitStack() as opened:
            started = [
                opened.enter_context(
                    self.arena.start("worker", [VENV / "bin" / str(name), *map(str, words)], self.environment)
                )
                for name, *words in commands
            ]
            yield started[0]

    def counted(self) -> int:
        """Return how many jobs apps/counting.py counted in workers that have ended."""
        ledger = Path(self.environment["BENCH_LEDGER"])
        return sum(map(int, ledger.read_text().split())) if ledger.exists() else 0


class Guest(ABC):
    """A peer: defines how to start its workers and how to find out that its jobs are done."""

    #: The package whose presence in the venv means that the peer is installed.
    package: ClassVar[str]
    #: The peer's module in apps/.
    app: ClassVar[str]

    def prepare(self, stay: Stay) -> None:  # noqa: B027 - most have nothing to prepare
        """Create tables and settings."""

    @abstractmethod
    def workers(self, job: str) -> list[list[object]]:
        """Return the commands that start two worker processes."""

    @abstractmethod
    def left(self, stay: Stay) -> int:
        """Return how many jobs are not done yet. While workers run this may be an estimate."""

    @abstractmethod
    def done(self, stay: Stay) -> int:
        """Return exactly how many jobs were done. Called after the workers have ended."""

    def installed(self) -> bool:
        """Return whether the peer is installed."""
        return any(VENV.glob(f"lib/python*/site-packages/{self.package}"))

    def drain(self, job: str, jobs: int) -> Contender:
        """Return a contender that drains a backlog with two processes."""

        def measure(arena: Arena) -> Figures:
            count = arena.size(jobs, 1_000)
            with self._stay(arena) as stay:
                self._enqueue(stay, "bulk" if self.bulk else "single", job, count)
                with stay.start(self.workers(job)) as worker:
                    figures = draining.drain(arena, worker, lambda: count - self.left(stay), count)
                self._check(self.done(stay), count)
            return figures

        return measure

    def enqueue(self, mode: str, jobs: int) -> Contender:
        """Return a contender in which one process enqueues, one call after the other."""

        def measure(arena: Arena) -> Figures:
            count = arena.size(jobs, 3_000)
            with self._stay(arena) as stay:
                rate = self._enqueue(stay, mode, "noop", count)
                self._check(self.left(stay), count)
            return {"rate": rate}

        return measure

    #: Whether the peer can enqueue many jobs with one call.
    bulk: ClassVar[bool] = True

    @contextmanager
    def _stay(self, arena: Arena) -> Iterator[Stay]:
        with Stay.begin(arena) as stay:
            self.prepare(stay)
            yield stay

    def _enqueue(self, stay: Stay, mode: str, job: str, count: int) -> float:
        return float(stay.run("python", "-m", "enqueueing", self.app, mode, job, count))

    def _check(self, there: int, count: int) -> None:
        if there != count:
            raise RuntimeError(f"{self.app}: found {there} jobs, not {count}")
