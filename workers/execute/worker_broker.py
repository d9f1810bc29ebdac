"""The worker's Dramatiq broker: the producing half of jobs/broker.py, and a consumer of claimed jobs."""

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import dramatiq
from dramatiq.errors import ActorNotFound
from dramatiq.middleware import Middleware

from callboard.jobs.dramatiq.broker import VIRTUAL_QUEUE, CallboardBroker
from callboard.jobs.dramatiq.definition import JobDefinition, define
from callboard.workers.execute.hooks import CurrentAttempt, Hooks
from callboard.workers.execute.runner import Runner

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

#: Signals of every attempt, which nothing is done for when no middleware watches.
_OF_ATTEMPTS: Final = frozenset({"ack", "nack"})


class WorkerBroker(CallboardBroker):
    """Hands Dramatiq's worker a runner in each actor's place, and our consumer in place of a queue's."""

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
        """What this process can run: every actor that was declared, by name."""
        return {name: define(actor) for name, actor in self.actors.items()}

    def serve(
        self, consumer: dramatiq.Consumer, make_runner: Callable[[dramatiq.Actor[..., Any]], Runner]
    ) -> None:
        """From now on `consume` gives this consumer, and the worker's threads get these runners."""
        self._consumer = consumer
        self._make_runner = make_runner

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        if signal == "process_message":
            if self.watched:
                self.around.before(args[0])
            self.current.put(args[0].attempt)
        elif self.watched or signal not in _OF_ATTEMPTS:
            super().emit_before(signal, *args, **kwargs)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        if signal == "process_message":
            self.current.take()
            self.around.after(args[0], kwargs.get("exception"))
        elif signal == "skip_message":
            self.around.skipped(args[0])
        elif self.watched or signal not in _OF_ATTEMPTS:
            super().emit_after(signal, *args, **kwargs)

    def get_actor(self, actor_name: str) -> Any:
        """The actor; in a thread that is about to run an attempt, what runs it in the actor's place."""
        attempt = self.current.peek()
        if attempt is None or attempt.job.name != actor_name:
            return super().get_actor(actor_name)
        try:
            return self._runners[actor_name]
        except KeyError:
            return self._runner(actor_name)

    def _runner(self, actor_name: str) -> Runner:
        actor = self.actors.get(actor_name)
        if actor is None or self._make_runner is None:
            raise ActorNotFound(actor_name)  # type: ignore[no-untyped-call]
        return self._runners.setdefault(actor_name, self._make_runner(actor))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> dramatiq.Consumer:  # noqa: ARG002
        if self._consumer is None:
            raise RuntimeError("the broker serves no consumer yet")
        return self._consumer


class OneConsumer(dict[str, Any]):
    """The consumers of a Dramatiq worker, by queue: there is one, whatever a message's queue is."""

    def __missing__(self, queue_name: str) -> Any:
        if queue_name == VIRTUAL_QUEUE:
            raise KeyError(queue_name)
        return self[VIRTUAL_QUEUE]
