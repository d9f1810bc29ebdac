"""Which jobs there are and what each accepts, as the workers published it; read through a short cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from threading import Lock
from typing import Final

import structlog
from sqlalchemy import Connection

from callboard.jobs.definitions import repository
from callboard.jobs.definitions.arguments import ArgumentChecker
from callboard.jobs.definitions.job_type import JobType
from callboard.jobs.errors import InvalidInput, UnknownJob
from callboard.jobs.model.clock import SYSTEM, Clock
from callboard.jobs.postgres.database import Database

_FRESH_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job type with its compiled check of arguments."""

    type: JobType
    checker: ArgumentChecker


class Catalogue:
    """Looks job types up. An answer is at most 5 seconds old; a name that is not known is always asked for anew."""

    def __init__(self, database: Database, *, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._clock = clock
        self._lock = Lock()
        self._known: dict[str, KnownJob] = {}
        self._read_at = float("-inf")

    def get(self, name: str) -> KnownJob:
        """The job type of this name; raises UnknownJob with the closest names."""
        known = self.find(name)
        if known is None:
            near = get_close_matches(name, self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; is a worker that defines it running?"
            raise UnknownJob(f"no job is called {name[:100]!r}{hint}", fields={"name": "unknown job"})
        return known

    def find(self, name: str) -> KnownJob | None:
        with self._lock:
            known = self._known.get(name)
            if known is not None and self._clock.monotonic() - self._read_at < _FRESH_SECONDS:
                return known
        return self._read().get(name)

    def every(self) -> list[JobType]:
        return [known.type for known in self._read().values()]

    def publish(self, types: Sequence[JobType]) -> None:
        """Write what this process's workers know, and the queues they serve."""

        def write(connection: Connection) -> None:
            repository.publish(connection, types)
            repository.declare(connection, sorted({kind.queue for kind in types}))

        self._database.retrying(write)

    def forget(self) -> None:
        """Read everything anew with the next look-up."""
        with self._lock:
            self._known = {}
            self._read_at = float("-inf")

    def _read(self) -> dict[str, KnownJob]:
        """Read all job types; without the lock, so that a database that hangs holds up nobody who knows already."""
        with self._database.autocommit() as connection:
            types = repository.every(connection)
        known: dict[str, KnownJob] = {}
        for kind in types:
            old = self._known.get(kind.name)
            # A type that did not change keeps its compiled check.
            compiled = old if old is not None and old.type == kind else _compile(kind)
            if compiled is not None:
                known[kind.name] = compiled
        with self._lock:
            self._known = known
            self._read_at = self._clock.monotonic()
        return known


def _compile(kind: JobType) -> KnownJob | None:
    try:
        return KnownJob(kind, ArgumentChecker(kind.schema))
    except InvalidInput as error:
        # One row that somebody has spoiled must not hide all others.
        log.error("catalogue.unusable", job=kind.name, reason=error.message)  # noqa: TRY400
        return None
