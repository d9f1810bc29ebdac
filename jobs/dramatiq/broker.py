"""The Dramatiq broker for programs that enqueue: `.send()` commits a job to Postgres.

The worker's broker (workers/execute/worker_broker.py) is a subclass that also consumes.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import dramatiq
import structlog
from dramatiq import Actor, Message
from dramatiq import broker as dramatiq_broker
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import Middleware, MiddlewareError

from callboard.jobs.definitions.own_code import OWN_CODE
from callboard.jobs.dramatiq.async_calls import serve_async_calls
from callboard.jobs.dramatiq.declarations import ActorsByName, Declarations
from callboard.jobs.dramatiq.dispatching import dispatch_of, with_eta, with_job_id
from callboard.jobs.dramatiq.job_names import job_name
from callboard.jobs.dramatiq.loading import load_middleware
from callboard.jobs.dramatiq.message_ids import make_sortable
from callboard.jobs.dramatiq.middleware_defaults import defaults_of
from callboard.jobs.dramatiq.own_jobs import own_type
from callboard.jobs.dramatiq.queue_contents import drop_waiting, wait_until_done
from callboard.jobs.dramatiq.stock import (
    REPLACED,
    StandIn,
    default_additions,
    live_hooks,
    overridden_hooks,
    stand_ins,
    stays_on_loop,
    with_stand_ins,
)
from callboard.jobs.errors import Duplicate
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.current import current_source
from callboard.jobs.model.dispatch import JOB_ID_CONSTRAINT, Dispatch, dispatched
from callboard.jobs.model.new_job import batch_of

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: The only queue that Dramatiq's worker sees. The platform manages the real queues.
VIRTUAL_QUEUE: Final = "callboard"

Hook = Callable[..., Any]

OWN_CODE.holder, OWN_CODE.define, OWN_CODE.name = dramatiq_broker, own_type, job_name

log = structlog.get_logger(__name__)


class CallboardBroker(dramatiq.Broker):
    """Accepts Dramatiq messages as jobs.

    connect:    returns the platform to use. By default the first message connects as `Client.from_env()`
                does.
    middleware: the program's middleware; by default the middleware that CALLBOARD_MIDDLEWARE names, after
                what the program has added to `dramatiq.middleware.default_middleware`.
    """

    def __init__(
        self,
        connect: "Callable[[], Platform] | None" = None,
        *,
        middleware: list[Middleware] | None = None,
    ) -> None:
        make_sortable()
        serve_async_calls()
        self._connect = connect or _from_env
        #: The hooks to call, by name. They are sorted again when the number of middleware is not `_sorted`.
        self._hooks: dict[str, list[tuple[Middleware, Hook]]] = {}
        self._sorted = 0
        #: The options that the middleware sets for this broker's plain actors.
        self.defaults: Mapping[str, Any] = {}
        #: Whether any middleware has a hook for single attempts.
        self.watched = False
        #: Whether one of these hooks may block, so that those of async jobs run in threads.
        self.may_block = False
        self._stand_ins = stand_ins(lambda: self.platform)
        # An integration such as Sentry's changes this call: it adds its middleware to the list.
        super().__init__(middleware=[])
        # Jobs store this option, but no middleware of Dramatiq declares it.
        self.actor_options |= {"jitter"}
        self.queues: dict[str, None] = {}
        self.actors = ActorsByName()
        self._declarations = Declarations()
        if middleware is not None:
            # What an integration has added comes first, as in Dramatiq.
            self.middleware = [*self.added, *middleware]
            return
        for one in default_additions():
            self.add_middleware(one)
        self.add_configured()

    @cached_property
    def platform(self) -> "Platform":
        """Return the services that this broker uses."""
        return self._connect()

    @property
    def added(self) -> list[Middleware]:
        """The middleware without the stand-ins for Dramatiq's own."""
        return [one for one in self._middleware if not isinstance(one, StandIn)]

    @property
    def middleware(self) -> list[Middleware]:
        """The middleware in its order. A list that is set here keeps results, and all options of actors."""
        return self._middleware

    @middleware.setter
    def middleware(self, middleware: Iterable[Middleware]) -> None:
        self._middleware = with_stand_ins(middleware, self._stand_ins)
        for one in self._middleware:
            self.actor_options |= one.actor_options
        self._sort_hooks()

    def add_configured(self) -> None:
        """Add the middleware of CALLBOARD_MIDDLEWARE; raises InvalidInput when one cannot be loaded."""
        from callboard.jobs.client import configured_middleware

        for one in load_middleware(configured_middleware()):
            self.add_middleware(one)

    def add_middleware(self, middleware: Middleware, **place: Any) -> None:
        super().add_middleware(middleware, **place)
        self._sort_hooks()
        if isinstance(middleware, REPLACED) and not isinstance(middleware, StandIn):
            log.info(
                "middleware.replaced",
                middleware=type(middleware).__name__,
                without=overridden_hooks(middleware),
            )

    def hooks(self, name: str) -> list[tuple[Middleware, Hook]]:
        """Return the hooks of this name that are not empty, in the order of the middleware."""
        if self._number_of_middleware() != self._sorted:
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

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, once. There are no delay queues."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def join(self, queue_name: str, *, interval: int = 100, timeout: int | None = None) -> None:
        """Wait until no job of the queue waits or runs, the delayed ones and the retries included.

        interval, timeout: milliseconds. Raises QueueNotFound for a queue that was not declared, and
        QueueJoinTimeout when `timeout` is over first.
        """
        wait_until_done(self.platform, self._declared(queue_name), interval=interval, timeout=timeout)

    def flush(self, queue_name: str) -> None:
        """Cancel all jobs of the queue that have not started, the delayed ones and the retries included.

        Raises QueueNotFound for a queue that was not declared.
        """
        drop_waiting(self.platform, self._declared(queue_name))

    def flush_all(self) -> None:
        """Do what `flush` does, for every declared queue."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def _declared(self, queue_name: str) -> str:
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        return queue_name

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Commit the message as a job; the returned message has the job's id. delay: milliseconds.

        All hooks see this id too.
        """
        message = with_eta(with_job_id(message), delay)
        self.emit_before("enqueue", message, delay)
        job_id = self._commit(self.dispatch(message, delay))
        text = str(job_id)
        accepted: Message[Any] = message if message.message_id == text else message.copy(message_id=text)
        self.emit_after("enqueue", accepted, delay)
        return accepted

    def _commit(self, dispatch: Dispatch) -> UUID:
        enqueue = self.platform.enqueue
        job = dispatched(dispatch, enqueue.check_job(dispatch.request, current_source(), text_keys=True))
        try:
            written = enqueue.accept(batch_of([job]))
        except Duplicate as error:
            if error.constraint != JOB_ID_CONSTRAINT:
                raise
            # A message that is sent a second time is a new job with a new id.
            written = enqueue.accept(batch_of([job._replace(id=new_id())]))
        return written.ids[0]

    def dispatch(
        self, message: Message[Any], delay: int | None = None, *, barrier: str | None = None
    ) -> Dispatch:
        """Return what to enqueue for a message."""
        actor = self.actors.get(message.actor_name)
        dispatch = dispatch_of(message, actor, delay, barrier, self.defaults_for(actor))
        if actor is not None:
            return dispatch
        # Another program of this application may have the actor.
        return dispatch._replace(request=self.platform.catalogue.in_app(dispatch.request))

    def defaults_for(self, actor: Actor[..., Any] | None) -> Mapping[str, Any]:  # noqa: ARG002
        """Return the options that middleware sets for a plain actor."""
        return self.defaults

    def _sort_hooks(self) -> None:
        hooks: dict[str, list[tuple[Middleware, Hook]]] = {}
        for one in self._middleware:
            for name, hook in live_hooks(one).items():
                hooks.setdefault(name, []).append((one, hook))
        self._set_hooks(hooks)
        self.defaults = defaults_of(self._middleware)

    def _set_hooks(self, hooks: dict[str, list[tuple[Middleware, Hook]]]) -> None:
        self._hooks, self._sorted = hooks, self._number_of_middleware()
        around = [one for name in hooks if name.endswith(AROUND) for one, _ in hooks[name]]
        self.watched = bool(around)
        self.may_block = not all(stays_on_loop(one) for one in around)

    def _number_of_middleware(self) -> int:
        return len(self._middleware)


#: The name suffixes of the hooks that are called for each attempt.
AROUND: Final = ("_process_message", "_skip_message", "_ack", "_nack")


def _from_env() -> "Platform":
    from callboard.jobs.client import Client

    return Client.from_env().platform
