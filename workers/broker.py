"""The worker's Dramatiq broker: the producing half of jobs/broker.py, and a consumer of claimed jobs."""

from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.errors import ActorNotFound

from jobs.broker import Accept, CallboardBroker
from jobs.definition import JobDefinition, define
from workers.runner import CurrentAttempt, Runner


class WorkerBroker(CallboardBroker):
    """Hands Dramatiq's worker a runner in each actor's place, and our consumer in place of a queue's."""

    def __init__(self, accept: Accept) -> None:
        self.current = CurrentAttempt()
        super().__init__(accept, middleware=[self.current])
        self._runners: dict[str, Runner] = {}
        self._consumer: dramatiq.Consumer | None = None

    def definitions(self) -> dict[str, JobDefinition]:
        """What this process can run: every actor that was declared, by name."""
        return {name: define(actor) for name, actor in self.actors.items()}

    def serve(
        self, consumer: dramatiq.Consumer, make_runner: Callable[[dramatiq.Actor[..., Any]], Runner]
    ) -> None:
        """From now on `consume` gives this consumer, and `get_actor` these runners."""
        self._consumer = consumer
        self._runners = {name: make_runner(actor) for name, actor in self.actors.items()}

    def get_actor(self, actor_name: str) -> Any:
        try:
            return self._runners[actor_name]
        except KeyError:
            raise ActorNotFound(actor_name) from None  # type: ignore[no-untyped-call]

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> dramatiq.Consumer:  # noqa: ARG002
        if self._consumer is None:
            raise RuntimeError("the broker serves no consumer yet")
        return self._consumer
