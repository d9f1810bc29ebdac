"""The jobs whose code this process has imported: the actors of its brokers."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from weakref import WeakKeyDictionary, WeakSet

import dramatiq
from dramatiq import broker as dramatiq_broker

from callboard.jobs.client import configured_app
from callboard.jobs.definitions.catalogue import ArgumentChecker, KnownJob
from callboard.jobs.definitions.name_hints import name_hint
from callboard.jobs.dramatiq.definition import JobDefinition, define
from callboard.jobs.dramatiq.job_names import job_name
from callboard.jobs.errors import InvalidInput, UnknownJob
from callboard.jobs.model.job_type import JobType

_definitions: "WeakKeyDictionary[dramatiq.Actor[..., object], JobDefinition]" = WeakKeyDictionary()
_known: "WeakKeyDictionary[dramatiq.Actor[..., object], KnownJob]" = WeakKeyDictionary()
#: The brokers that programs have used besides Dramatiq's global one.
_brokers: "WeakSet[dramatiq.Broker]" = WeakSet()


def note_broker(broker: dramatiq.Broker) -> None:
    """Count a broker's actors as imported, also if it is not Dramatiq's global broker."""
    _brokers.add(broker)


def brokers() -> Iterator[dramatiq.Broker]:
    """Return the brokers of this process, the global one first."""
    if dramatiq_broker.global_broker is not None:
        yield dramatiq_broker.global_broker
    yield from _brokers


def imported_actors() -> Mapping[str, "dramatiq.Actor[..., object]"]:
    """Return the imported actors by name."""
    found: dict[str, dramatiq.Actor[..., object]] = {}
    for broker in brokers():
        for name, actor in broker.actors.items():
            found.setdefault(name, actor)
    return found


def definition_of(actor: "dramatiq.Actor[..., object]") -> JobDefinition:
    """Return the definition of an actor, as a worker makes it."""
    found = _definitions.get(actor)
    if found is None:
        found = _definitions[actor] = define(actor)
    return found


def usable_types() -> list[JobType]:
    """Return the types of the imported jobs. One that cannot be defined raises its error when it is used."""
    found = []
    for actor in imported_actors().values():
        with suppress(InvalidInput):
            found.append(definition_of(actor).type)
    return found


def imported_actor(name: str) -> "dramatiq.Actor[..., object] | None":
    """Return the actor of an imported job, by the job's full name; None when no module defines it."""
    actors = imported_actors()
    # An actor may have the bare name of its job.
    actor = actors.get(name) or actors.get(name.partition(".")[2])
    return actor if actor is not None and job_name(actor) == name else None


def known_job(name: str) -> KnownJob | None:
    """Return the job type of an imported job, by its full name; None when no module defines it."""
    actor = imported_actor(name)
    if actor is None:
        return None
    found = _known.get(actor)
    if found is None:
        kind = definition_of(actor).type
        found = _known[actor] = KnownJob(kind, ArgumentChecker(kind.schema))
    return found


def full_name(name: str) -> str:
    """Return the full name of a job of this application that is given by its bare name; else the name."""
    own = f"{configured_app()}.{name}"
    return name if known_job(own) is None else own


def not_imported(name: str) -> UnknownJob:
    """Return the error for a job that no imported module defines. It suggests the closest name."""
    names = [job_name(actor) for actor in imported_actors().values()]
    hint = name_hint(name, names, "import the module that defines it")
    return UnknownJob(
        f"no imported module defines a job that is called {name[:100]!r}; {hint}",
        fields={"name": "unknown job"},
    )
