"""Brokers of any class that programs made: in a test they serve the platform of the test, as in a worker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq import Message

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.testing.imported_jobs import brokers, imported_actors, note_broker
from callboard.testing.replacing import Replacement, replaced

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform
    from callboard.workers.execute.worker_broker import WorkerBroker


def adopt(worker: "WorkerBroker") -> None:
    """Let a worker's broker run the actors of this process's brokers, each with its broker's middleware."""
    for actor in imported_actors().values():
        if worker.actors.get(actor.actor_name) is not actor:
            worker.take_actor(actor, actor.broker)
    new = [one for one in brokers() if one not in worker.adopted]
    if new:
        worker.adopted += new
        # It sorts the hooks of all adopted brokers.
        worker.middleware = list(worker.middleware)


@contextmanager
def sending_to(platform: "Platform") -> Iterator[None]:
    """Let `.send()` of stock brokers enqueue into a platform, and connect to no server of theirs.

    Brokers of classes that are made in the block take part.
    """

    @cache
    def worker() -> "WorkerBroker":
        # Most tests send nothing by such a broker, and this import is slow.
        from callboard.workers.execute.worker_broker import WorkerBroker

        return WorkerBroker(lambda: platform, Event(), middleware=[])

    def enqueue(broker: dramatiq.Broker, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        note_broker(broker)
        adopt(worker())
        return worker().enqueue(message, delay=delay)

    with ExitStack() as undo:

        def take(kind: type[dramatiq.Broker], **_: Any) -> None:
            owner = _owner(kind)
            if owner is not None and vars(owner).get("enqueue") is not enqueue:
                undo.enter_context(replaced(Replacement(owner, "enqueue", enqueue)))

        made: Callable[..., None] = take
        undo.enter_context(replaced(Replacement(dramatiq.Broker, "__init_subclass__", classmethod(made))))
        for kind in _kinds(dramatiq.Broker):
            take(kind)
        yield


def _kinds(kind: type[dramatiq.Broker]) -> Iterator[type[dramatiq.Broker]]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


def _owner(kind: type[dramatiq.Broker]) -> type[dramatiq.Broker] | None:
    """Return the class whose `enqueue` sends to a server; None for brokers of ours.

    A program's subclass of a broker may do more in `enqueue`, so its base is changed.
    """
    if issubclass(kind, CallboardBroker):
        return None
    lineage = [one for one in kind.__mro__ if issubclass(one, dramatiq.Broker)][:-1]
    return next((one for one in reversed(lineage) if "enqueue" in vars(one)), None)
