"""Job definitions, read from the actor: the same for a `@job` and for a plain `@dramatiq.actor`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import dramatiq
from dramatiq.asyncio import async_to_sync

from callboard.jobs.definitions.arguments import ArgumentBinder, describe
from callboard.jobs.definitions.callables import check_callable, starts_coroutine
from callboard.jobs.dramatiq.actor import JobActor, JobOptions
from callboard.jobs.dramatiq.dispatching import priority_of
from callboard.jobs.dramatiq.job_names import job_name
from callboard.jobs.dramatiq.middleware_defaults import options_of
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.fields import is_job_name
from callboard.jobs.model.basics.json_values import storable
from callboard.jobs.model.derived_keys import check_names
from callboard.jobs.model.job import DEFAULT_PRIORITY
from callboard.jobs.model.job_type import JobType, UniqueRule
from callboard.jobs.model.retry import RetryPolicy
from callboard.jobs.model.unique import Unique

_DOC_LENGTH: Final = 500
_OF_MESSAGES: Final = (
    "on_success", "on_failure", "on_retry_exhausted", "pipe_ignore", "throws", "max_age", "notify_shutdown",
)  # fmt: skip


async def _nothing() -> None: ...


#: The code of the wrapper by which Dramatiq's own workers run a coroutine function.
_BLOCKING: Final = async_to_sync(_nothing).__code__

#: The calls of actors that do nothing but call the decorated function.
_CALLS: Final = (dramatiq.Actor.__call__, JobActor.__call__)


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """A job that this process can run.

    `call` is the decorated callable itself. `is_async`: whether a call makes a coroutine, for the event loop.
    """

    name: str
    queue: str
    options: JobOptions
    call: Callable[..., Any]
    is_async: bool
    binder: ArgumentBinder
    type: JobType
    #: False for a plain actor. Dramatiq does not fail a job whose result cannot be stored, and never kills a
    #: process because a job ignores its time limit.
    is_ours: bool = True
    #: The actor's options that the worker uses, such as callbacks and max_age.
    message_options: Mapping[str, Any] = field(default_factory=dict)
    #: The parameters whose annotation cannot be used, each with the reason.
    unchecked: Mapping[str, str] = field(default_factory=dict)
    #: The name of the actor, if it is not the job's name: the job has a namespace.
    actor_name: str | None = None

    @property
    def message_name(self) -> str:
        """Return the name of the actor, which Dramatiq's messages have."""
        return self.actor_name or self.name

    def ignores_result(self, target: Any) -> bool:
        """Return whether the next message of a pipeline, `target`, does not take this job's result.

        Dramatiq reads pipe_ignore from the next message or from this job's actor, not from this message.
        """
        options = target.get("options") if isinstance(target, Mapping) else None
        following = options.get("pipe_ignore") if isinstance(options, Mapping) else None
        return bool(following or self.message_options.get("pipe_ignore"))


def define(actor: dramatiq.Actor[..., Any]) -> JobDefinition:
    """Return the definition of an actor: of a `@job` or of a plain one.

    The arguments of a `@job` are converted to its annotated types. A plain actor gets the parsed JSON. Its
    options (max_retries, min_backoff, max_backoff, throws, time_limit) have the same meaning as in Dramatiq.
    """
    call = _function(actor)
    name = job_name(actor)
    if name != actor.actor_name and not is_job_name(name):
        raise InvalidInput(
            f"the job {actor.actor_name!r:.60} cannot have the namespace of CALLBOARD_APP: a name has at most"
            " 200 characters with it",
            fields={"name": "at most 200 characters with the namespace"},
        )
    check_callable(call, what=f"the job {name!r}")
    ours = isinstance(actor, JobActor)
    message_options = actor.options if isinstance(actor, JobActor) else options_of(actor)
    options = (
        actor.job_options if isinstance(actor, JobActor) else _plain_options(actor.priority, message_options)
    )
    timeout = options.timeout.total_seconds() if options.timeout else None
    spec = describe(call)
    schema = spec.schema
    check_names(name, schema, (*(options.unique.by if options.unique else ()), *options.limit_by))
    kind = JobType(
        name=name,
        queue=actor.queue_name,
        schema=schema,
        priority=options.priority,
        max_attempts=options.retry.max_attempts,
        timeout=timeout,
        doc=storable(inspect.getdoc(call) or "", _DOC_LENGTH),
        hard_timeout=options.hard_timeout.total_seconds() if options.hard_timeout else None,
        unique=_rule(options.unique),
        limit_by=options.limit_by,
        module=getattr(call, "__module__", None),
    )
    return JobDefinition(
        name=name,
        queue=actor.queue_name,
        options=options,
        call=call,
        is_async=starts_coroutine(call),
        binder=ArgumentBinder(call, coerce=ours),
        type=kind,
        is_ours=ours,
        message_options={name: message_options[name] for name in _OF_MESSAGES if message_options.get(name)},
        unchecked=spec.unchecked,
        actor_name=actor.actor_name,
    )


def _rule(unique: Unique | None) -> UniqueRule | None:
    return None if unique is None else UniqueRule(unique.by, unique.seconds, unique.on_conflict)


def unknown(name: str, queue: str) -> JobDefinition:
    """Return a stand-in for a job that this process does not know; it is never called."""

    def call() -> None:
        raise NotImplementedError(name)

    options = JobOptions(RetryPolicy(), None, DEFAULT_PRIORITY)
    kind = JobType(name, queue, {}, DEFAULT_PRIORITY, options.retry.max_attempts, None, "")
    return JobDefinition(
        name, queue, options, call, is_async=False, binder=ArgumentBinder(call, coerce=False), type=kind
    )


def _function(actor: dramatiq.Actor[..., Any]) -> Callable[..., Any]:
    """Return what a worker calls: the decorated callable, or the actor whose class has its own `__call__`.

    Around a coroutine function, a plain actor has Dramatiq's blocking wrapper; it is the only wrapper that we
    do not call.
    """
    if type(actor).__call__ not in _CALLS:
        return actor
    if isinstance(actor, JobActor):
        return actor.function
    is_blocking = getattr(actor.fn, "__code__", None) is _BLOCKING
    return actor.fn.__wrapped__ if is_blocking else actor.fn  # type: ignore[attr-defined]


def _plain_options(priority: int, options: Mapping[str, Any]) -> JobOptions:
    retries: dict[str, Any] = {"max_retries": options["max_retries"]} if "max_retries" in options else {}
    policy = RetryPolicy.from_dramatiq(
        **retries,
        min_backoff_ms=options.get("min_backoff"),
        max_backoff_ms=options.get("max_backoff"),
        throws=options.get("throws"),
        retry_when=options.get("retry_when"),
    )
    limit = options.get("time_limit")
    timeout = (
        timedelta(milliseconds=limit) if isinstance(limit, int | float) and limit != float("inf") else None
    )
    return JobOptions(policy, timeout, priority_of(priority))
