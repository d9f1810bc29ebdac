"""The rule for unique jobs in a job's definition."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from typing_extensions import TypeAliasType

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import parse_duration

OnConflict = TypeAliasType("OnConflict", Literal["existing", "replace", "reject"])
_ON_CONFLICT: Final = ("existing", "replace", "reject")


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one unfinished job for the same arguments.

    by:          the names of the arguments that are compared. Empty: all arguments.
    period:      how long the key is held at least (`"1h"`), counted from the enqueue, even when the job ends
                 earlier.
    on_conflict: what an enqueue does when the key is held. `existing` returns the job that holds the key.
                 `replace` gives that job the new arguments and time if it has not started (debounce).
                 `reject` raises Conflict.
    """

    by: tuple[str, ...] = ()
    period: str | timedelta | None = None
    on_conflict: OnConflict = "existing"

    def __post_init__(self) -> None:
        if self.on_conflict not in _ON_CONFLICT:
            raise InvalidInput(f"Unique: on_conflict must be one of {', '.join(_ON_CONFLICT)}")
        if isinstance(self.by, str) or not all(isinstance(name, str) for name in self.by):
            raise InvalidInput('Unique: by must be a tuple of argument names, such as ("account_id",)')
        if (self.seconds or 0.0) < 0:
            raise InvalidInput("Unique: period must not be negative")

    @property
    def seconds(self) -> float | None:
        """The period in seconds."""
        if self.period is None:
            return None
        span = parse_duration(self.period) if isinstance(self.period, str) else self.period
        return span.total_seconds()
