"""The Dramatiq broker for programs that enqueue: `.send()` commits a job to Postgres.

The worker's broker (workers/execute/worker_broker.py) is a subclass that also consumes.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import dramatiq
import structlog
from dramatiq import Actor, Message
from dramatiq.middleware import Middleware, MiddlewareError

from callboard.jobs.dramatiq.declarations import ActorsByName, Declarations
from callboard.jobs.dramatiq.loading import load_middleware
from callboard.jobs.dramatiq.stock import REPLACED, StandIn, is_live, stand_ins
from callboard.jobs.errors import Duplicate
from callboard.jobs.model.basics.durations import LONGEST
from callboard.jobs.model.basics.ids import id_of, new_id
from callboard.jobs.model.current import current_source
from callboard.jobs.model.dispatch import JOB_ID_CONSTRAINT, Dispatch, dispatched
from callboard.jobs.model.job import DEFAULT_PRIORITY
from callboard.jobs.model.new_job import batch_of
from callboard.jobs.model.request import job_request
from callboard.jobs.model.retry import MAX_RETRIES, UNLIMITED_ATTEMPTS

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: The only queue that Dramatiq's worker sees. The platform manages the real queues.
VIRTUAL_QUEUE: Final = "callboard"

#: Dramatiq's priorities are integers: the default is 0, and lower ones come first. Ours are 0 (first) to 9;
#: the default is 5. An absolute value of at least 1, 2, 10 or 100 becomes 1, 2, 3 or 4 steps from 5.
_STEPS: Final = (1, 2, 10, 100)
#: The year 3000, in milliseconds since 1970.
_LATEST: Final = 32_503_680_000_000

Hook = Callable[..., Any]

log = structlog.get_logger(__name__)


class CallboardBroker(dramatiq.Broker):
    """Accepts Dramatiq messages as jobs.

    connect:    returns the platform to use. By default the first message connects as `Client.from_env()`
                does.
    middleware: the program's middleware; by default the middleware that CALLBOARD_MIDDLEWARE names.
    """

    def __init__(
        self,
        connect: "Callable[[], Platform] | None" = None,
        *,
        middleware: list[Middleware] | None = None,
    ) -> None:
        self._connect = connect or _from_env
        #: The hooks to call, by name. They are sorted again when the number of middleware is not `_sorted`.
        self._hooks: dict[str, list[tuple[Middleware, Hook]]] = {}
        self._sorted = 0
        #: Whether any middleware has a hook for single attempts.
        self.watched = False
        super().__init__(middleware=[*stand_ins(lambda: self.platform)])
        # Jobs store this option, but no middleware of Dramatiq declares it.
        self.actor_options |= {"jitter"}
        self.queues: dict[str, None] = {}
        self.actors = ActorsByName()
        self._declarations = Declarations()
        if middleware is None:
            self.add_configured()
        for one in middleware or ():
            self.add_middleware(one)

    @cached_property
    def platform(self) -> "Platform":
        """Return the services that this broker uses."""
        return self._connect()

    def add_configured(self) -> None:
        """Add the middleware of CALLBOARD_MIDDLEWARE; raises InvalidInput when one cannot be loaded."""
        from callboard.jobs.client import configured_middleware

        for one in load_middleware(configured_middleware()):
            self.add_middleware(one)

    def add_middleware(self, middleware: Middleware, **place: Any) -> None:
        super().add_middleware(middleware, **place)
        self._sort_hooks()
        if isinstance(middleware, REPLACED) and not isinstance(middleware, StandIn):
            log.info("middleware.replaced", middleware=type(middleware).__name__)

    def hooks(self, name: str) -> list[tuple[Middleware, Hook]]:
        """Return the hooks of this name that are not empty, in the order of the middleware."""
        if len(self.middleware) != self._sorted:
            self._sort_hooks()
        return self._hooks.get(name, [])

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        for middleware, hook in self.hooks("before_" + signal):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except self.tolerated("before_" + signal):  # as in Dramatiq, it does not fail the message
                log.exception("middleware.failed", middleware=repr(middleware), hook="before_" + signal)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        for middleware, hook in reversed(self.hooks("after_" + signal)):
            try:
                hook(self, *args, **kwargs)
            except self.tolerated("after_" + signal):  # as in Dramatiq, it does not fail the message
                log.exception("middleware.failed", middleware=repr(middleware), hook="after_" + signal)

    def declare_actor(self, actor: Actor[..., Any]) -> None:
        """Declare an actor. Raises JobNameTaken if another function has its name."""
        self._declarations.add(actor.actor_name, getattr(actor, "function", actor.fn))
        super().declare_actor(actor)

    def tolerated(self, hook: str) -> type[BaseException]:  # noqa: ARG002
        """Return the errors of a hook that are logged and go no further."""
        return Exception

    def declare_queue(self, queue_name: str) -> None:  # noqa: ARG002
        """Declare the one virtual queue, once.

        Dramatiq's worker needs no other queue.
        """
        if not self.queues:
            self.emit_before("declare_queue", VIRTUAL_QUEUE)
            self.queues[VIRTUAL_QUEUE] = None
            self.emit_after("declare_queue", VIRTUAL_QUEUE)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Commit the message as a job; the returned message has the job's id. delay: milliseconds."""
        self.emit_before("enqueue", message, delay)
        dispatch = self.dispatch(message, delay)
        enqueue = self.platform.enqueue
        job = dispatched(dispatch, enqueue.check_job(dispatch.request, current_source()))
        try:
            written = enqueue.accept(batch_of([job]))
        except Duplicate as error:
            if error.constraint != JOB_ID_CONSTRAINT:
                raise
            # A message that is sent a second time is a new job with a new id.
            written = enqueue.accept(batch_of([job._replace(id=new_id())]))
        accepted: Message[Any] = message.copy(message_id=str(written.ids[0]))
        self.emit_after("enqueue", accepted, delay)
        return accepted

    def dispatch(
        self, message: Message[Any], delay: int | None = None, *, barrier: str | None = None
    ) -> Dispatch:
        """Return what to enqueue for a message."""
        return dispatch_of(message, self.actors.get(message.actor_name), delay, barrier)

    def _sort_hooks(self) -> None:
        hooks: dict[str, list[tuple[Middleware, Hook]]] = {}
        for one in filter(is_live, self.middleware):
            for name in _HOOKS:
                if getattr(type(one), name, None) is not getattr(Middleware, name) or name in vars(one):
                    hooks.setdefault(name, []).append((one, getattr(one, name)))
        self._hooks, self._sorted = hooks, len(self.middleware)
        self.watched = any(name.endswith(_AROUND) for name in hooks)


#: The name suffixes of the hooks that are called for each attempt.
_AROUND: Final = ("_process_message", "_skip_message", "_ack", "_nack")
_HOOKS: Final = [name for name in vars(Middleware) if name.startswith(("before_", "after_"))]


def _from_env() -> "Platform":
    from callboard.jobs.client import Client

    return Client.from_env().platform


def priority_of(dramatiq_priority: int) -> int:
    """Return our priority: 0 is 5; 1 is 6; 2 to 9 is 7; 10 to 99 is 8; 100 and more is 9.

    Negative priorities are symmetric: -1 is 4, and so on.
    """
    steps = sum(abs(dramatiq_priority) >= least for least in _STEPS)
    return DEFAULT_PRIORITY + steps if dramatiq_priority > 0 else DEFAULT_PRIORITY - steps


def dispatch_of(
    message: Message[Any], actor: Actor[..., Any] | None, delay: int | None = None, barrier: str | None = None
) -> Dispatch:
    """Return what to enqueue for a message. actor: the message's actor, if this process knows it.

    Raises InvalidInput, which names the option that is not valid.
    """
    options = message.options
    values: dict[str, Any] = {
        "name": message.actor_name,
        "args": list(message.args),
        "kwargs": message.kwargs,
        "queue": message.queue_name,
        # As in other brokers, a message may be sent before any worker has published its actor.
        "unchecked": True,
    }
    if delay is not None:
        values["delay"] = _span(max(delay, 0))
    if options:
        values |= _known_options(options)
        # Dramatiq's own brokers store a delay as `eta`. JSON has no infinity: an infinite limit means no
        # limit.
        kept = {key: value for key, value in options.items() if key != "eta" and value != math.inf}
        values["message_options"] = kept or None
    expires_at = expiry(message.message_timestamp, options, {} if actor is None else actor.options)
    if expires_at is not None:
        values["expires_at"] = expires_at
    defaults = None if actor is None or hasattr(actor, "job_options") else actor.options
    if defaults is not None and actor is not None:
        values["priority"] = priority_of(actor.priority)
    attempts = _attempts(options, defaults)
    return Dispatch(
        job_request(values), id_of(message.message_id, message.message_timestamp), attempts, barrier
    )


def _attempts(options: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> int | None:
    """Return how many attempts a message has; None when the job's definition decides."""
    if defaults is not None and defaults.get("retry_when") is not None:
        return UNLIMITED_ATTEMPTS
    if "max_retries" not in options and defaults is None:
        return None
    retries = options.get("max_retries", (defaults or {}).get("max_retries", MAX_RETRIES))
    if retries is None:
        return UNLIMITED_ATTEMPTS
    return min(max(retries, 0) + 1, UNLIMITED_ATTEMPTS) if isinstance(retries, int) else None


def expiry(made_at: int, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> datetime | None:
    """Return when a message made at `made_at` (milliseconds) becomes too old to run; None: never."""
    max_age = options.get("max_age") or defaults.get("max_age")
    if not isinstance(max_age, int | float) or not 0 < made_at + max_age < _LATEST:
        return None
    return datetime.fromtimestamp((made_at + max_age) / 1000, UTC)


def _known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    limit = options.get("time_limit")
    if isinstance(limit, int | float) and limit > 0:
        values["timeout"] = _span(limit)
    least, most = (_backoff(options.get(name)) for name in ("min_backoff", "max_backoff"))
    if least is not None:
        values["min_backoff"] = least if most is None else min(least, most)
    if most is not None:
        values["max_backoff"] = most
    return values


def _backoff(value: object) -> timedelta | None:
    return _span(value) if isinstance(value, int | float) and value >= 0 else None


def _span(milliseconds: float) -> timedelta:
    """Return a duration. One that is too long to be stored, also infinity, becomes the longest."""
    longest = LONGEST.total_seconds() * 1000
    return timedelta(milliseconds=min(milliseconds, longest))
