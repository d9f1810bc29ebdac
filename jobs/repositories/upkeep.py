"""What there is for the scheduler to do: asked several times a second, in one statement that looks at the ends of indexes."""

from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from jobs.models import in_states
from jobs.states import PENDING


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


# OFFSET 0: one look into the index for each queue, never a hash of all that is queued. Those that run alone are not fed.
_FEEDABLE: Final = """
coalesce((SELECT array_agg(q.name ORDER BY q.name) FROM callboard.queues q
  WHERE q.paused_at IS NULL AND NOT q.limited
    AND EXISTS (SELECT FROM callboard.jobs j WHERE j.state = 'queued' AND j.queue = q.name AND NOT j.solo OFFSET 0)), '{}') AS plain,
coalesce((SELECT array_agg(q.name ORDER BY q.name) FROM callboard.queues q
  WHERE q.paused_at IS NULL AND q.limited
    AND (EXISTS (SELECT FROM callboard.jobs j WHERE j.state = 'queued' AND j.queue = q.name OFFSET 0)
      OR EXISTS (SELECT FROM callboard.grants g WHERE g.queue = q.name AND g.started_at IS NULL OFFSET 0))), '{}') AS limited
"""
_LOOK: Final = text(f"""
SELECT
(SELECT expires_at FROM callboard.jobs WHERE expires_at IS NOT NULL AND {in_states(PENDING)}
  ORDER BY expires_at LIMIT 1) - statement_timestamp() AS expires_in,
(SELECT run_at FROM callboard.jobs WHERE state IN ('scheduled', 'retrying') ORDER BY run_at, id LIMIT 1) - statement_timestamp() AS due_in,
(SELECT next_fire_at FROM callboard.schedules WHERE next_fire_at IS NOT NULL
  ORDER BY next_fire_at LIMIT 1) - statement_timestamp() AS fires_in,
EXISTS (SELECT FROM callboard.workers WHERE lease_expires_at <= statement_timestamp()) AS dead,
{_FEEDABLE}
""")


def look(connection: Connection) -> Upkeep:
    """Whether anything has expired, is due or is to be fed, and when the next thing will be."""
    values: list[Any] = list(connection.execute(_LOOK).one())
    return Upkeep(*values)
