"""A job type: what workers publish about a job, so that other processes can check and enqueue it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from callboard.jobs.model.unique import OnConflict


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """At most one unfinished job for the same values of some arguments.

    by:          the names of these arguments. Empty: all arguments.
    period:      the minimum time that the key is held from the enqueue on, in seconds.
    on_conflict: existing | replace | reject.
    """

    by: tuple[str, ...]
    period: float | None
    on_conflict: OnConflict


@dataclass(frozen=True, slots=True)
class JobType:
    """A job type as workers publish it.

    schema:                JSON Schema of the arguments.
    timeout, hard_timeout: in seconds; None: no timeout.
    doc:                   the docstring of the job's function.
    """

    name: str
    queue: str
    schema: dict[str, Any]
    priority: int
    max_attempts: int
    timeout: float | None
    doc: str
    hard_timeout: float | None = None
    unique: UniqueRule | None = None
    #: The names of the arguments that give a job its limit_key when the enqueue does not set one.
    limit_by: tuple[str, ...] = ()
    #: The module that defines the job; None when a release that did not tell it published the job.
    module: str | None = None


@dataclass(frozen=True, slots=True)
class JobVersion:
    """A version of a job type, as the database has it.

    digest:       names the version. Versions with the same queue, schema and defaults have the same digest.
    published_at: when it became the newest version of its name.
    seen_at:      when it was last published, or when its last worker ended.
    workers:      how many workers with a live lease run it.
    is_live:      whether a worker runs it, ran it until a minute ago, or `job publish` announced it.
    is_current:   whether it counts at doors without the job's code: it is live; or no version is, and it was
                  published or seen last.
    """

    type: JobType
    digest: str
    published_at: datetime
    seen_at: datetime
    workers: int
    is_live: bool
    is_current: bool


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """What a publication did. `change`: new | newest (again) | unchanged."""

    name: str
    digest: str
    change: str

    @property
    def key(self) -> str:
        """Return the text that names the version in the row of a worker."""
        return f"{self.name}@{self.digest}"
