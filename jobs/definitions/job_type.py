"""The catalogue: which jobs the workers know, and what each accepts."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """One job for the same values of these arguments (`by`; of all when it is empty), while one is active.

    period: held at least so long from the enqueue on, in seconds. on_conflict: existing | replace | reject.
    """

    by: tuple[str, ...]
    period: float | None
    on_conflict: str


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job. `schema`: JSON Schema of its arguments; `timeout` and `hard_timeout` in seconds."""

    name: str
    queue: str
    schema: dict[str, Any]
    priority: int
    max_attempts: int
    timeout: float | None
    doc: str
    hard_timeout: float | None = None
    unique: UniqueRule | None = None
    #: The arguments that a job's limit_key is made of, when the enqueue names none.
    limit_by: tuple[str, ...] = ()
