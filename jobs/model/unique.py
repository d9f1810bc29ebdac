"""What makes a job one of a kind, as its definition says it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.durations import parse_duration

OnConflict = Literal["existing", "replace", "reject"]
_ON_CONFLICT: Final = ("existing", "replace", "reject")


@dataclass(frozen=True, slots=True)
class Unique:
    """One job for the same arguments, while one of them is active.

    by:          the arguments that count; all of them when it is empty.
    period:      hold the key at least so long (`"1h"`), counted from the enqueue, whatever becomes of the job.
    on_conflict: existing answers with the job that is there, replace gives it the new arguments and time as long as it
                 has not begun (debounce), reject refuses.
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
