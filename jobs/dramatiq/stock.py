"""Stand-ins for Dramatiq's own middleware. Callboard does its work in Postgres, so none of its hooks run.

The broker's list of middleware has a stand-in for each. So the broker knows their actor options,
`add_middleware(..., before=Retries)` finds its position, and results and group callbacks find our backends.
If a program adds one of these classes itself, it is added to the list, but its hooks do not run either.
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

#: If their hooks ran, these would do the platform's work a second time or interrupt code outside of a job.
REPLACED: Final = (
    AgeLimit, TimeLimit, ShutdownNotifications, Callbacks, Pipelines, Retries, GroupCallbacks, AsyncIO,
)  # fmt: skip
#: A group that takes longer than this does not run its callbacks: 30 days, in milliseconds.
_BARRIER_TTL: Final = 30 * 86_400_000


class StandIn(Middleware):
    """The base of middleware without hooks. As the first base class, its empty hooks override the others."""


class _AgeLimit(StandIn, AgeLimit):
    """The option max_age becomes the job's `expires_at`."""


class _TimeLimit(StandIn, TimeLimit):
    """The option time_limit becomes the job's `timeout`."""

    def __init__(self) -> None:
        """Do not start the thread that interrupts actors."""


class _ShutdownNotifications(StandIn, ShutdownNotifications):
    """A worker that shuts down interrupts the jobs that do not end within its grace period."""


class _Callbacks(StandIn, Callbacks):
    """The jobs of on_success and on_failure are enqueued in the transaction that ends the attempt."""


class _Pipelines(StandIn, Pipelines):
    """The job of pipe_target is enqueued in the transaction that ends the attempt."""


class _Retries(StandIn, Retries):
    """The job's retry policy decides, and its row stores the errors."""


class _Results(StandIn, Results):
    """The job's row stores the result."""


class _GroupCallbacks(StandIn, GroupCallbacks):
    """The callbacks of a group are enqueued in the transaction that ends its last job."""


# Middleware itself has the same empty hooks, but it comes last in the method resolution order. So copy them.
for _name, _hook in vars(Middleware).items():
    if _name.startswith(("before_", "after_")):
        setattr(StandIn, _name, _hook)


def stand_ins(connect: "Callable[[], Platform]") -> list[Middleware]:
    """Return one stand-in for each, in Dramatiq's order."""
    results: Any = _Results
    return [
        _AgeLimit(), _TimeLimit(), _ShutdownNotifications(), _Callbacks(), _Pipelines(), _Retries(),
        results(backend=PostgresResults(connect), store_results=True),
        _GroupCallbacks(PostgresLimits(connect), barrier_ttl=_BARRIER_TTL),
    ]  # fmt: skip


def is_live(middleware: Middleware) -> bool:
    """Whether the middleware's hooks run: it is neither a stand-in nor a class that a stand-in replaces."""
    return not isinstance(middleware, (StandIn, *REPLACED))
