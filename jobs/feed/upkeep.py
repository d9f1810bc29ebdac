"""The work that is due for the scheduler. One statement reads it."""

from datetime import datetime, timedelta
from typing import NamedTuple


class Upkeep(NamedTuple):
    """The result of one look at the database.

    Times count from the look. A negative time is already due. None: there is nothing.
    """

    #: The time of the look, by the database's clock.
    at: datetime
    #: The version of the tables.
    version: str | None
    #: When the next job expires, the next delayed or retried job is due, and the next schedule fires.
    expires_in: timedelta | None
    due_in: timedelta | None
    fires_in: timedelta | None
    #: Whether the lease of a worker has run out.
    dead: bool
    #: Queues without limits that are not paused and have queued jobs.
    plain: list[str]
    #: Queues with limits that are not paused and have queued jobs, or grants that may be void.
    limited: list[str]

    @property
    def expires(self) -> bool:
        return _is_past(self.expires_in)

    @property
    def due(self) -> bool:
        return _is_past(self.due_in)

    @property
    def fires(self) -> bool:
        return _is_past(self.fires_in)

    @property
    def for_feeder(self) -> bool:
        """Whether there is a job to expire, to stage or to feed."""
        return bool(self.expires or self.due or self.plain or self.limited)

    @property
    def next_in(self) -> timedelta | None:
        """The time until the next of these is due; negative if one is already due."""
        times = [each for each in (self.expires_in, self.due_in, self.fires_in) if each is not None]
        return min(times, default=None)


def _is_past(when: timedelta | None) -> bool:
    return when is not None and when <= timedelta(0)
