"""The worker's Dramatiq broker: jobs/dramatiq/broker.py with a consumer of claimed jobs."""

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import dramatiq
import structlog
from dramatiq.errors import ActorNotFound
from dramatiq.middleware import Middleware

from callboard.jobs.attempts.error_text import class_name, is_readable
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.definition import JobDefinition, define
from callboard.workers.board import PutOnBoard
from callboard.workers.execute.hooks import CurrentAttempt, Hooks
from callboard.workers.execute.sync_runner import AwaitValue, run

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

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
        found = {name: define(actor) for name, actor in self.actors.items()}
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

    def serve(
        self, consumer: dramatiq.Consumer, make_runner: "Callable[[dramatiq.Actor[..., Any]], Runner]"
    ) -> None:
        """Set the consumer that `consume` returns, and the factory of
        the runners that `get_actor` returns.
        """
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
        if attempt is None or attempt.job.name != actor_name:
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
        put_on_board: PutOnBoard,
        draining: Event,
        await_value: AwaitValue,
    ) -> None:
        self.actor_name = actor.actor_name
        self.queue_name = actor.queue_name
        self.options = actor.options
        self._current = current
        self._put_on_board = put_on_board
        self._draining = draining
        self._await_value = await_value

    def __call__(self, *_args: Any, **_kwargs: Any) -> None:
        attempt = self._current.take()
        if attempt is None:
            raise RuntimeError("only the worker's threads may call a runner")
        error = run(attempt, self._put_on_board, self._draining, self._await_value)
        if error is not None:
            raise error if is_readable(error) else Unloggable(error)
