"""Dramatiq's own middleware, replaced: what it would do is done in Postgres, and none of its hooks runs.

Each has a stand-in in the broker's list, so that its options are known, `add_middleware(..., before=Retries)` finds its
place, and results and group callbacks find our backends. What a program adds of these itself is put in the list and
as little run.
"""

from typing import TYPE_CHECKING, Any, Final

from dramatiq.middleware import (
    AgeLimit,
    AsyncIO,
    Callbacks,
    GroupCallbacks,
    Middleware,
    Pipelines,
    Retries,
    ShutdownNotifications,
    TimeLimit,
)
from dramatiq.results import Results

from callboard.jobs.dramatiq.rate_limits import PostgresLimits
from callboard.jobs.dramatiq.results import PostgresResults

if TYPE_CHECKING:
    from collections.abc import Callable

    from callboard.jobs.platform import Platform

#: These would do a second time what the platform does, or interrupt code that is not a job's.
REPLACED: Final = (
    AgeLimit, TimeLimit, ShutdownNotifications, Callbacks, Pipelines, Retries, GroupCallbacks, AsyncIO,
)  # fmt: skip
#: A group whose jobs wait for weeks in a queue still calls back. Milliseconds.
_BARRIER_TTL: Final = 30 * 86_400_000


class StandIn(Middleware):
    """Marks middleware that hooks nothing; its hooks come first among its bases, and are empty."""


class _AgeLimit(StandIn, AgeLimit):
    """max_age becomes the job's `expires_at`."""


class _TimeLimit(StandIn, TimeLimit):
    """time_limit becomes the job's `timeout`."""

    def __init__(self) -> None:
        """Without the thread that would interrupt."""


class _ShutdownNotifications(StandIn, ShutdownNotifications):
    """A drained worker interrupts what does not end within the grace period."""


class _Callbacks(StandIn, Callbacks):
    """on_success and on_failure are enqueued in the transaction of the end that causes them."""


class _Pipelines(StandIn, Pipelines):
    """So is pipe_target."""


class _Retries(StandIn, Retries):
    """Retries are in the job's row."""


class _Results(StandIn, Results):
    """Results are in the job's row."""


class _GroupCallbacks(StandIn, GroupCallbacks):
    """A group's callbacks are enqueued in the transaction of the last end."""


# In the order of method resolution the empty hooks of Middleware itself would come last: they are put first here.
for _name, _hook in vars(Middleware).items():
    if _name.startswith(("before_", "after_")):
        setattr(StandIn, _name, _hook)


def stand_ins(connect: "Callable[[], Platform]") -> list[Middleware]:
    """One of each, in Dramatiq's order."""
    results: Any = _Results
    return [
        _AgeLimit(), _TimeLimit(), _ShutdownNotifications(), _Callbacks(), _Pipelines(), _Retries(),
        results(backend=PostgresResults(connect), store_results=True),
        _GroupCallbacks(PostgresLimits(connect), barrier_ttl=_BARRIER_TTL),
    ]  # fmt: skip


def is_live(middleware: Middleware) -> bool:
    """Whether its hooks run here."""
    return not isinstance(middleware, (StandIn, *REPLACED))
