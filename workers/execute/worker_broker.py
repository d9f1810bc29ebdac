"""The worker's Dramatiq broker: jobs/dramatiq/broker.py with a consumer of claimed jobs."""

from collections.abc import Callable, Iterable, Mapping
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import dramatiq
import structlog
from dramatiq.errors import ActorNotFound
from dramatiq.middleware import Middleware, default_middleware
from dramatiq.results import Results

from callboard.jobs.attempts.error_text import class_name, is_readable
from callboard.jobs.dramatiq.broker import AROUND, VIRTUAL_QUEUE, CallboardBroker, Hook
from callboard.jobs.dramatiq.definition import JobDefinition, define
from callboard.jobs.dramatiq.middleware_defaults import defaults_of
from callboard.jobs.dramatiq.stock import default_additions, live_hooks
from callboard.workers.board import BoardWriter
from callboard.workers.execute.hooks import CurrentAttempt, Hooks
from callboard.workers.execute.sync_runner import AwaitValue, run

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: The name suffixes of the hooks whose first argument is a message.
_OF_MESSAGES: Final = (*AROUND, "_enqueue")
#: Signals that are sent for every attempt. They are skipped while no middleware listens.
_ATTEMPT_SIGNALS: Final = frozenset({"ack", "nack"})
#: The hooks that run in the worker's own threads and outside of a job's function. One that exits must not
#: take its thread along. An exit in `before_process_message` fails the attempt, as in Dramatiq.
_GUARDED_HOOKS: Final = frozenset(
    {
        *(f"{when}_{signal}" for when in ("before", "after") for signal in ("ack", "nack", "skip_message")),
        "after_process_message",
        "after_worker_thread_boot", "before_worker_thread_shutdown",
        "after_consumer_thread_boot", "before_consumer_thread_shutdown",
    }
)  # fmt: skip

log = structlog.get_logger(__name__)


class WorkerBroker(CallboardBroker):
    """Gives Dramatiq's worker a runner in place of each actor, and our consumer in place of a queue's."""

    def __init__(
        self,
        connect: "Callable[[], Platform]",
        draining: Event,
        *,
        middleware: list[Middleware] | None = None,
    ) -> None:
        #: The brokers that jobs' modules made, see adoption.py. Each actor belongs to one, or to this broker.
        self.adopted: list[dramatiq.Broker] = []
        #: The middleware of CALLBOARD_MIDDLEWARE.
        self.configured: list[Middleware] = []
        #: The result backends of adopted brokers that do nothing, because ours is in their place.
        self.backends_replaced: list[Any] = []
        self._number_of_defaults = len(default_middleware)
        #: Stands for the broker of actors that this process does not know.
        self.default_home: dramatiq.Broker = self
        self._defaults_by_home: dict[int, Mapping[str, Any]] = {}
        #: The adopted broker on which an actor was declared last.
        self._homes: dict[str, dramatiq.Broker] = {}
        self.current = CurrentAttempt()
        self.around = Hooks(self, draining)
        super().__init__(connect, middleware=middleware)
        self._make_runner: Callable[[dramatiq.Actor[..., Any]], Runner] | None = None
        self._runners: dict[str, Runner] = {}
        self._consumer: dramatiq.Consumer | None = None

    def definitions(self) -> dict[str, JobDefinition]:
        """Return the jobs that this process can run, by name: every actor that was declared.

        Warn about parameters that cannot be checked.
        """
        found = {one.name: one for one in map(define, self.actors.values())}
        for name, definition in found.items():
            for parameter, reason in definition.unchecked.items():
                log.warning(
                    "job.parameter_unchecked",
                    job=name,
                    parameter=parameter,
                    module=getattr(definition.call, "__module__", None),
                    reason=reason,
                )
        return found

    @property
    def stand_ins(self) -> list[Middleware]:
        """The stand-ins for Dramatiq's own middleware, which have our backends."""
        return self._stand_ins

    @property
    def actor_options(self) -> set[str]:
        """The options of actors, with those of middleware that a module has just added to the defaults."""
        if len(default_middleware) != self._number_of_defaults:
            self.add_missing(default_additions())
        return self._actor_options

    @actor_options.setter
    def actor_options(self, names: set[str]) -> None:
        self._actor_options = names

    def add_missing(self, middleware: Iterable[Middleware], *, first: bool = False) -> None:
        """Add middleware of classes that this broker does not have."""
        self._number_of_defaults = len(default_middleware)
        for one in middleware:
            if not any(type(known) is type(one) for known in self.middleware):
                self.add_middleware(one)
                if first:
                    self.middleware.insert(0, self.middleware.pop())
                    self._sort_hooks()

    def adopt_actor(self, actor: dramatiq.Actor[..., Any], home: dramatiq.Broker) -> None:
        """Let this worker run an actor that was declared on an adopted broker.

        Raises JobNameTaken as `declare_actor` does.
        """
        self._declarations.add(actor.actor_name, getattr(actor, "function", actor.fn))
        self.take_actor(actor, home)

    def take_actor(self, actor: dramatiq.Actor[..., Any], home: dramatiq.Broker) -> None:
        """Do what `adopt_actor` does, also if another function has the name of this actor."""
        self.actors[actor.actor_name] = actor
        self._homes[actor.actor_name] = home

    def home_of(self, actor_name: str) -> dramatiq.Broker:
        """Return the broker whose middleware belongs to an actor."""
        known = self._homes.get(actor_name)
        if known is None:
            known = self if actor_name in self.actors else self.default_home
        return known

    def defaults_for(self, actor: dramatiq.Actor[..., Any] | None) -> Mapping[str, Any]:
        home = self if actor is None else self.home_of(actor.actor_name)
        return self._defaults_by_home.get(id(home), self.defaults)

    def _number_of_middleware(self) -> int:
        return sum(len(home.middleware) for home in (self, *self.adopted))

    def _set_hooks(self, hooks: dict[str, list[tuple[Middleware, Hook]]]) -> None:
        """Set the hooks of all brokers. A message's hooks are those of its actor's broker."""
        if self.adopted:
            hooks, seen = {}, set()
            for home in (*self.adopted, self):
                for one in home.middleware:
                    if type(one) is Results and not isinstance(home, CallboardBroker):
                        # Our backend is in it, so its hooks have nothing to do.
                        continue
                    for name, hook in live_hooks(one).items():
                        of_message = name.endswith(_OF_MESSAGES)
                        if of_message or (id(one), name) not in seen:
                            seen.add((id(one), name))
                            called = self._of_home(hook, home, of_message=of_message)
                            hooks.setdefault(name, []).append((one, called))
            self._defaults_by_home = {id(home): defaults_of(home.middleware) for home in self.adopted}
        super()._set_hooks(hooks)

    def _of_home(self, hook: Hook, home: dramatiq.Broker, *, of_message: bool) -> Hook:
        def call(_broker: dramatiq.Broker, *args: Any, **kwargs: Any) -> None:
            if not of_message or self.home_of(args[0].actor_name) is home:
                hook(home, *args, **kwargs)

        return call

    def serve(
        self, consumer: dramatiq.Consumer, make_runner: "Callable[[dramatiq.Actor[..., Any]], Runner]"
    ) -> None:
        """Set the consumer that `consume` returns, and the factory of
        the runners that `get_actor` returns.
        """
        # Dramatiq's worker looks for it when it starts. No hook of the program's sees this queue.
        self.queues[VIRTUAL_QUEUE] = None
        self._consumer = consumer
        self._make_runner = make_runner

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        if signal == "process_message":
            if self.watched:
                self.around.before(args[0])
            self.current.put(args[0].attempt)
        elif self.watched or signal not in _ATTEMPT_SIGNALS:
            super().emit_before(signal, *args, **kwargs)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        if signal == "process_message":
            self.current.take()
            error = kwargs.get("exception")
            self.around.after(args[0], error.original if type(error) is Unloggable else error)
        elif signal == "skip_message":
            self.around.skipped(args[0])
        elif self.watched or signal not in _ATTEMPT_SIGNALS:
            super().emit_after(signal, *args, **kwargs)

    def tolerated(self, hook: str) -> type[BaseException]:
        return BaseException if hook in _GUARDED_HOOKS else Exception

    def get_actor(self, actor_name: str) -> Any:
        """Return the actor.

        In a thread that is about to run an attempt, return the runner in place of the actor.
        """
        attempt = self.current.peek()
        if attempt is None or attempt.definition.message_name != actor_name:
            return super().get_actor(actor_name)
        try:
            return self._runners[actor_name]
        except KeyError:
            return self._runner(actor_name)

    def _runner(self, actor_name: str) -> "Runner":
        actor = self.actors.get(actor_name)
        if actor is None or self._make_runner is None:
            raise ActorNotFound(actor_name)  # type: ignore[no-untyped-call]
        return self._runners.setdefault(actor_name, self._make_runner(actor))

    def consume(self, *_queue: Any, **_options: Any) -> dramatiq.Consumer:
        """Return the one consumer, for every queue."""
        if self._consumer is None:
            raise RuntimeError("the broker serves no consumer yet")
        return self._consumer


class Unloggable(Exception):
    """Stands for an exception whose own code fails, while Dramatiq logs it and compares its class."""

    def __init__(self, original: BaseException) -> None:
        super().__init__(f"an exception whose text cannot be read: {class_name(type(original))}")
        self.original = original


class Runner:
    """Takes an actor's place in Dramatiq's worker: runs the attempt, keeps its outcome, and returns nothing.

    An exception of the job is raised again, so that middleware sees it.
    """

    #: All jobs have the same priority here: the claim has decided the order.
    priority: Final = 0

    def __init__(
        self,
        actor: dramatiq.Actor[..., Any],
        current: CurrentAttempt,
        board_writer: BoardWriter,
        draining: Event,
        await_value: AwaitValue,
    ) -> None:
        self.actor_name = actor.actor_name
        self.queue_name = actor.queue_name
        self.options = actor.options
        self._current = current
        self._board_writer = board_writer
        self._draining = draining
        self._await_value = await_value

    def __call__(self, *_args: Any, **_kwargs: Any) -> None:
        attempt = self._current.take()
        if attempt is None:
            raise RuntimeError("only the worker's threads may call a runner")
        error = run(attempt, self._board_writer, self._draining, self._await_value)
        if error is not None:
            raise error if is_readable(error) else Unloggable(error)
