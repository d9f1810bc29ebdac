"""The Dramatiq broker of programs that enqueue: `.send()` commits a job to Postgres.

The worker's broker (workers/broker.py) is this one with a consuming half.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import dramatiq
import structlog
from dramatiq import Message
from dramatiq.middleware import Middleware, MiddlewareError

from callboard.jobs.attempts.context import current_source
from callboard.jobs.dramatiq.loading import load_middleware
from callboard.jobs.dramatiq.messages import dispatch_of
from callboard.jobs.dramatiq.stock import REPLACED, StandIn, is_live, stand_ins
from callboard.jobs.enqueue.batch import Receipt
from callboard.jobs.followers.dispatch import Dispatch
from callboard.jobs.model.request import JobRequest

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: The one queue that Dramatiq's machinery sees; which queues there are is ours to know.
VIRTUAL_QUEUE: Final = "callboard"

Hook = Callable[..., Any]

log = structlog.get_logger(__name__)


class CallboardBroker(dramatiq.Broker):
    """Accepts messages as jobs.

    connect:    where to; without it the first message connects as `Client.from_env()` does.
    middleware: what runs besides the platform; by default what CALLBOARD_MIDDLEWARE names.
    """

    def __init__(
        self,
        connect: "Callable[[], Platform] | None" = None,
        *,
        middleware: list[Middleware] | None = None,
    ) -> None:
        self._connect = connect or _from_env
        self._platform: Platform | None = None
        #: What is to be called, by the hook's name; made anew when there is more middleware than `_sorted` says.
        self._hooks: dict[str, list[tuple[Middleware, Hook]]] = {}
        self._sorted = 0
        #: Whether any hook wants to see each attempt.
        self.watched = False
        super().__init__(middleware=[*stand_ins(self.connect)])
        #: Kept with a job, and not an option of any middleware of Dramatiq's.
        self.actor_options |= {"jitter"}
        self.queues: dict[str, None] = {}
        if middleware is None:
            self.add_configured()
        for one in middleware or ():
            self.add_middleware(one)

    def connect(self) -> "Platform":
        """The services behind this broker."""
        if self._platform is None:
            self._platform = self._connect()
        return self._platform

    def add_configured(self) -> None:
        """Add what CALLBOARD_MIDDLEWARE names; raises InvalidInput that says which of it cannot be loaded."""
        from callboard.jobs.client import configured_middleware

        for one in load_middleware(configured_middleware()):
            self.add_middleware(one)

    def add_middleware(self, middleware: Middleware, **place: Any) -> None:
        super().add_middleware(middleware, **place)
        self._sort_hooks()
        if isinstance(middleware, REPLACED) and not isinstance(middleware, StandIn):
            log.info("middleware.replaced", middleware=type(middleware).__name__)

    def hooks(self, name: str) -> list[tuple[Middleware, Hook]]:
        """The hooks of this name that do something, in the order of the list of middleware."""
        if len(self.middleware) != self._sorted:
            self._sort_hooks()
        return self._hooks.get(name, [])

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        for middleware, hook in self.hooks("before_" + signal):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:  # a hook's own fault is not the message's, as with Dramatiq
                log.exception("middleware.failed", middleware=repr(middleware), hook="before_" + signal)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        for middleware, hook in reversed(self.hooks("after_" + signal)):
            try:
                hook(self, *args, **kwargs)
            except Exception:  # a hook's own fault is not the message's, as with Dramatiq
                log.exception("middleware.failed", middleware=repr(middleware), hook="after_" + signal)

    def declare_queue(self, queue_name: str) -> None:  # noqa: ARG002
        """Note a queue; Dramatiq's worker hears of one virtual queue, once, whatever there are."""
        if not self.queues:
            self.emit_before("declare_queue", VIRTUAL_QUEUE)
            self.queues[VIRTUAL_QUEUE] = None
            self.emit_after("declare_queue", VIRTUAL_QUEUE)

    def accept(self, request: JobRequest) -> Receipt:
        """Commit a job; its source is the running job, if there is one."""
        return self.connect().enqueue.one(request, current_source())

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Commit the message as a job; the message that is returned has the job's id."""
        self.emit_before("enqueue", message, delay)
        receipt = self.connect().dispatching.accept(self.dispatch(message, delay), current_source())
        accepted: Message[Any] = message.copy(message_id=str(receipt.id))
        self.emit_after("enqueue", accepted, delay)
        return accepted

    def dispatch(
        self, message: Message[Any], delay: int | None = None, *, barrier: str | None = None
    ) -> Dispatch:
        """What to enqueue for a message."""
        return dispatch_of(message, self.actors.get(message.actor_name), delay, barrier)

    def _sort_hooks(self) -> None:
        hooks: dict[str, list[tuple[Middleware, Hook]]] = {}
        for one in filter(is_live, self.middleware):
            for name in _HOOKS:
                if getattr(type(one), name, None) is not getattr(Middleware, name) or name in vars(one):
                    hooks.setdefault(name, []).append((one, getattr(one, name)))
        self._hooks, self._sorted = hooks, len(self.middleware)
        self.watched = any(name.endswith(_AROUND) for name in hooks)


#: What the hooks are about that are called for each attempt.
_AROUND: Final = ("_process_message", "_skip_message", "_ack", "_nack")
_HOOKS: Final = [name for name in vars(Middleware) if name.startswith(("before_", "after_"))]


def _from_env() -> "Platform":
    from callboard.jobs.client import Client

    return Client.from_env().platform
