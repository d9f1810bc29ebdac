"""Imports modules that define jobs into a process that runs none, to publish their types."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dramatiq

from callboard.jobs.definitions.own_code import OWN_CODE
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.declarations import Declarations
from callboard.jobs.dramatiq.import_faults import naming_faults
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.job_type import JobType

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform


@contextmanager
def _gathered() -> Iterator[dict[str, "dramatiq.Actor[..., Any]"]]:
    """Gather the actors that are declared in this block, by name.

    Raises JobNameTaken as a worker does, which runs the actors of all brokers.
    """
    actors: dict[str, dramatiq.Actor[..., Any]] = {}
    declarations, declare = Declarations(), dramatiq.Broker.declare_actor

    def declared(broker: dramatiq.Broker, actor: "dramatiq.Actor[..., Any]") -> None:
        declare(broker, actor)
        declarations.add(actor.actor_name, getattr(actor, "function", actor.fn))
        actors[actor.actor_name] = actor

    kind: Any = dramatiq.Broker
    kind.declare_actor = declared
    try:
        yield actors
    finally:
        kind.declare_actor = declare


def imported_types(modules: Sequence[str], platform: "Platform") -> list[JobType]:
    """Import these modules; return the types of all jobs that they define, on whatever broker.

    Raises InvalidInput, which names the module that cannot be imported or that no module defines a job.
    """
    folder = os.getcwd()  # noqa: PTH109 - sys.path takes text
    if folder not in sys.path:
        sys.path.append(folder)
    with _gathered() as actors:
        if modules:
            dramatiq.set_broker(CallboardBroker(lambda: platform))
        for name in modules:
            with naming_faults(f"CALLBOARD_JOBS: the module {name!r} cannot be imported"):
                import_module(name)
    types = [OWN_CODE.define(actor) for actor in actors.values()]
    if not types:
        raise InvalidInput(
            f"CALLBOARD_JOBS ({', '.join(modules) or 'empty'}) defines no job; name the modules that define"
            " jobs (for example: CALLBOARD_JOBS=myapp.jobs)"
        )
    return types
