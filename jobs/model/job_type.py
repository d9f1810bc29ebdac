"""A job type: what workers publish about a job, so that other processes can check and enqueue it."""

from dataclasses import dataclass
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
