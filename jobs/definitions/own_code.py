"""The jobs whose code this process has.

A program checks its enqueues against its own code, so it needs no worker that published the job.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Protocol

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.job_reference import NamedJob
from callboard.jobs.model.job_type import JobType


class Declared(Protocol):
    """A broker: it has the actors that were declared, by name."""

    @property
    def actors(self) -> Mapping[str, Any]: ...


class BrokerHolder(Protocol):
    """Holds the broker on which modules declare their jobs; None while there is none."""

    @property
    def global_broker(self) -> Declared | None: ...


@dataclass(slots=True)
class OwnCode:
    """Where the jobs are that this process has imported. `jobs/dramatiq` sets it.

    define: returns the type of an actor's job; raises InvalidInput when no job can be made of it.
    name:   returns the name of an actor's job, with its namespace.
    """

    holder: BrokerHolder
    define: Callable[[Any], JobType]
    name: Callable[[Any], str]

    def type_of(self, actor: Any, name: str) -> JobType | None:
        """Return the type of the actor's job if that has this name; else None.

        Also None when no job can be made of the actor: a worker refuses it with the reason, and to send
        messages to it, only its name is needed.
        """
        try:
            kind = self.define(actor)
        except InvalidInput:
            return None
        return kind if kind.name == name else None

    def types(self) -> list[JobType]:
        """Return the types of all jobs that this process has imported."""
        broker = self.holder.global_broker
        return [] if broker is None else [self.define(actor) for actor in broker.actors.values()]


def _undefined(actor: Any) -> JobType:
    raise NotImplementedError(f"nothing defines {actor!r}")


def _actor_name(actor: Any) -> str:
    name: str = actor.actor_name
    return name


OWN_CODE: Final = OwnCode(SimpleNamespace(global_broker=None), _undefined, _actor_name)


def name_of_job(job: str | NamedJob) -> str:
    """Return the job's name. What is no job is returned as it is: the check of the request refuses it."""
    return OWN_CODE.name(job) if hasattr(job, "actor_name") else job
