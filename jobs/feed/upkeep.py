"""What there is for the scheduler to do: asked several times a second, in one statement that looks at the ends of indexes."""

from datetime import timedelta
from typing import NamedTuple


class Upkeep(NamedTuple):
    """What a look has found. Times count from the look, and are negative for what is due; None: there is none."""

    #: When the next job expires, the next delayed or retried one is due, and the next schedule fires.
    expires_in: timedelta | None
    due_in: timedelta | None
    fires_in: timedelta | None
    #: Whether a worker's lease has run out.
    dead: bool
    #: Queues without limits that have queued jobs, and are not paused.
    plain: list[str]
    #: Queues with limits that are not paused and have queued jobs, or grants that may be void.
    limited: list[str]

    @property
    def expires(self) -> bool:
        return _past(self.expires_in)

    @property
    def due(self) -> bool:
        return _past(self.due_in)

    @property
    def fires(self) -> bool:
        return _past(self.fires_in)

    @property
    def for_feeder(self) -> bool:
        """Whether there is anything to expire, to stage or to feed."""
        return bool(self.expires or self.due or self.plain or self.limited)

    @property
    def next_in(self) -> timedelta | None:
        """When the next of it is due; negative when something is."""
        times = [each for each in (self.expires_in, self.due_in, self.fires_in) if each is not None]
        return min(times, default=None)


def _past(when: timedelta | None) -> bool:
    return when is not None and when <= timedelta(0)
