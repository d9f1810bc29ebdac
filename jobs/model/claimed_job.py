"""The values that travel between services and repositories.

Those that every attempt makes are named tuples, which cost a third of a frozen dataclass.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from callboard.jobs.model.stored_json import readable

if TYPE_CHECKING:
    pass


class ClaimedJob(NamedTuple):
    """An attempt that this worker, and no other, may run; every write names its epoch and its claim."""

    id: UUID
    epoch: int
    claim_id: UUID
    name: str
    queue: str
    priority: int
    #: JSON, as it is stored; both empty while they are too large to have come with the claim.
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
    #: Whether its queue is limited; the feeder is told of its end. None: there is no such queue.
    limited: bool | None = None

    @property
    def args(self) -> list[Any] | None:
        """The positional arguments; None when the stored JSON cannot be read."""
        value: list[Any] | None = readable(self.args_json)
        return value

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """The named arguments; None when the stored JSON cannot be read."""
        value: dict[str, Any] | None = readable(self.kwargs_json)
        return value
