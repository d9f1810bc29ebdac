"""Stand-ins for Dramatiq's own middleware. Callboard does its work in Postgres, so none of its hooks run.

The broker's list of middleware has a stand-in for each. So the broker knows their actor options,
`add_middleware(..., before=Retries)` finds its position, and results and group callbacks find our backends.
If a program adds one of these classes itself, it is added to the list, and its arguments are defaults of the
actors. Its hooks do not run. Of a class that inherits from one, the hooks run that the base does not have.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from dramatiq.middleware import (
    AgeLimit,
    AsyncIO,
    Callbacks,
    CurrentMessage,
    GroupCallbacks,
    Middleware,
    Pipelines,
    Retries,
    ShutdownNotifications,
    TimeLimit,
    default_middleware,
)
from dramatiq.results import Results

from callboard.jobs.dramatiq.rate_limits import PostgresLimits
from callboard.jobs.dramatiq.results import PostgresResults

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: If their hooks ran, these would do the platform's work a second time or interrupt code outside of a job.
REPLACED: Final = (
    AgeLimit, TimeLimit, ShutdownNotifications, Callbacks, Pipelines, Retries, GroupCallbacks,
)  # fmt: skip
_HOOKS: Final = [name for name in vars(Middleware) if name.startswith(("before_", "after_"))]
#: The hooks that Dramatiq calls for delay queues.
_NEVER: Final = ("after_declare_delay_queue", "before_delay_message")
#: The attribute by which a middleware class says that its hooks never block.
_ON_LOOP: Final = "callboard_hooks_on_loop"
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


def with_stand_ins(middleware: Iterable[Middleware], own: Iterable[Middleware]) -> list[Middleware]:
    """Return the middleware of a broker, preceded by the stand-ins of `own` that it lacks.

    So a program that sets the whole list keeps results, group callbacks and the options of actors.
    """
    every = list(middleware)
    missing = [one for one in own if not any(isinstance(each, type(one).__bases__[1]) for each in every)]
    # A backend of the program's own does not take the place of ours.
    missing += [
        one for one in own
        if isinstance(one, Results | GroupCallbacks) and one not in missing and one not in every
    ]  # fmt: skip
    return [*missing, *every]


def default_additions() -> list[Middleware]:
    """Make the middleware that the program added to `dramatiq.middleware.default_middleware`."""
    return [kind() for kind in default_middleware if kind not in REPLACED]


def live_hooks(middleware: Middleware) -> dict[str, Callable[..., Any]]:
    """Return the hooks of a middleware that are to be called, by name.

    Empty hooks are left out, and those by which Dramatiq's class does what Callboard does.
    """
    if isinstance(middleware, StandIn) or type(middleware) is AsyncIO:
        return {}
    base = _replaced_base(middleware)
    return {
        name: getattr(middleware, name)
        for name in _HOOKS
        if _has_hook(middleware, name) and not (base is not None and _is_hook_of(base, name))
    }


def stays_on_loop(middleware: Middleware) -> bool:
    """Return whether the hooks around async jobs may run on the event loop, because they never block."""
    return type(middleware) is CurrentMessage or bool(getattr(middleware, _ON_LOOP, False))


def overridden_hooks(middleware: Middleware) -> list[str]:
    """Return the hooks by which a program's subclass changes what Dramatiq's class does. They do not run."""
    base = None if isinstance(middleware, StandIn) else _replaced_base(middleware)
    if base is None:
        return []
    return [
        name for name in _HOOKS
        if _is_hook_of(base, name)
        and (getattr(type(middleware), name) is not getattr(base, name) or name in vars(middleware))
    ]  # fmt: skip


def uncalled_hooks(middleware: Middleware) -> list[str]:
    """Return the hooks of a program's middleware that Callboard never calls."""
    return [] if isinstance(middleware, StandIn) else [one for one in _NEVER if _has_hook(middleware, one)]


def _replaced_base(middleware: Middleware) -> type[Middleware] | None:
    return next((kind for kind in REPLACED if isinstance(middleware, kind)), None)


def _has_hook(middleware: Middleware, name: str) -> bool:
    kind = type(middleware)
    return getattr(kind, name, None) is not getattr(Middleware, name) or name in vars(middleware)


def _is_hook_of(base: type[Middleware], name: str) -> bool:
    return getattr(base, name) is not getattr(Middleware, name)
