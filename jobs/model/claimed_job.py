"""The attempt that a claim returns."""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from callboard.jobs.model.basics.stored_json import readable
from callboard.jobs.model.basics.stored_options import options_problem

_ZERO: Final = timedelta(0)


class ClaimedJob(NamedTuple):
    """One attempt, claimed by one worker. Every write to the job names the attempt's `epoch` and `claim_id`.

    A named tuple, because every attempt makes one: it costs a third of a frozen dataclass.
    """

    id: UUID
    epoch: int
    claim_id: UUID
    name: str
    queue: str
    priority: int
    #: The stored JSON. Both texts are empty when the arguments are too large for the claim to read.
    args_json: str
    kwargs_json: str
    attempt: int
    max_attempts: int
    timeout: timedelta | None
    run_at: datetime
    enqueued_at: datetime
    started_at: datetime
    hard_timeout: timedelta | None
    options: dict[str, Any] | None
    put_off: int
    #: True when the queue has limits, so the feeder must know when the attempt ends. None when the queue has
    #: no row.
    limited: bool | None = None
    #: The id of the HTTP request that the job began with.
    request_id: str | None = None

    @property
    def problem(self) -> str | None:
        """Return why no attempt can start with what the row says; None when one can.

        Callboard writes no such row, but somebody may have changed it.
        """
        for name, span in (("timeout", self.timeout), ("hard_timeout", self.hard_timeout)):
            if span is not None and span < _ZERO:
                return f"its {name} is negative"
        problem = options_problem(self.options)
        return None if problem is None else f"of its options, {problem}"

    @property
    def log_fields(self) -> dict[str, object]:
        """Return the fields of each log line about this attempt."""
        fields: dict[str, object] = {
            "job_id": str(self.id), "job": self.name, "attempt": self.attempt, "queue": self.queue,
        }  # fmt: skip
        if self.request_id is not None:
            fields["request_id"] = self.request_id
        return fields

    @property
    def args(self) -> list[Any] | None:
        """Return the positional arguments; None when the stored JSON cannot be read."""
        value: list[Any] | None = readable(self.args_json)
        return value

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """Return the named arguments; None when the stored JSON cannot be read."""
        value: dict[str, Any] | None = readable(self.kwargs_json)
        return value
