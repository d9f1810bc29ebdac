"""What all peers share: programs of their own venv that work in the arena, on its Redis and in a database of their own."""

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
    """One measurement of a guest: where it works, and what its processes get to see."""

    arena: Arena
    environment: dict[str, str]
    database: psycopg.Connection[TupleRow]

    @classmethod
    @contextmanager
    def begin(cls, arena: Arena) -> Iterator["Stay"]:
        """In an empty Redis and a new database, which goes at the end with all that Postgres would have to do about it."""
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
        """The first value of the first row."""
        row = self.database.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

    def run(self, program: str, *arguments: object) -> str:
        """Run a program of the venv to its end; returns what it printed."""
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
        """Programs of the venv until the block ends; gives the first."""
        with ExitStack() as opened:
            started = [
                opened.enter_context(
                    self.arena.start("worker", [VENV / "bin" / str(name), *map(str, words)], self.environment)
                )
                for name, *words in commands
            ]
            yield started[0]

    def counted(self) -> int:
        """Jobs that apps/counting.py has seen, by the workers that have ended."""
        ledger = Path(self.environment["BENCH_LEDGER"])
        return sum(map(int, ledger.read_text().split())) if ledger.exists() else 0


class Guest(ABC):
    """A peer: how its workers are started, and how it is seen that its jobs are done."""

    #: The package that is looked for in the venv, and the module under apps/.
    package: ClassVar[str]
    app: ClassVar[str]

    def prepare(self, stay: Stay) -> None:  # noqa: B027 - most have nothing to prepare
        """Make tables, settings."""

    @abstractmethod
    def workers(self, job: str) -> list[list[object]]:
        """The commands that make two worker processes."""

    @abstractmethod
    def left(self, stay: Stay) -> int:
        """How many jobs are not yet done, as far as can be seen while they run."""

    @abstractmethod
    def done(self, stay: Stay) -> int:
        """How many jobs were done, exactly; asked when the workers have ended."""

    def installed(self) -> bool:
        return any(VENV.glob(f"lib/python*/site-packages/{self.package}"))

    def drain(self, job: str, jobs: int) -> Contender:
        """Two processes work off a backlog."""

        def measure(arena: Arena) -> Figures:
            count = arena.size(jobs, 1_000)
            with self._stay(arena) as stay:
                self._enqueue(stay, "bulk" if self.bulk else "single", job, count)
                with stay.start(self.workers(job)) as worker:
                    figures = draining.drain(arena, worker, lambda: count - self.left(stay), count)
                self._check(self.done(stay), count)
            return figures

        return measure

    def enqueue(self, how: str, jobs: int) -> Contender:
        """One process enqueues, one call after the other."""

        def measure(arena: Arena) -> Figures:
            count = arena.size(jobs, 3_000)
            with self._stay(arena) as stay:
                rate = self._enqueue(stay, how, "noop", count)
                self._check(self.left(stay), count)
            return {"rate": rate}

        return measure

    #: Whether it can enqueue many with one call.
    bulk: ClassVar[bool] = True

    @contextmanager
    def _stay(self, arena: Arena) -> Iterator[Stay]:
        with Stay.begin(arena) as stay:
            self.prepare(stay)
            yield stay

    def _enqueue(self, stay: Stay, how: str, job: str, count: int) -> float:
        return float(stay.run("python", "-m", "enqueueing", self.app, how, job, count))

    def _check(self, there: int, count: int) -> None:
        if there != count:
            raise RuntimeError(f"{self.app}: {there} jobs of {count}")
