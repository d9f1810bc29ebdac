"""What a job is to the platform: a Dramatiq actor, its options, and what its signature accepts.

`@job` makes an actor with our options; `define` reads the same from a plain `@dramatiq.actor`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import dramatiq
from dramatiq import broker as dramatiq_broker

from callboard.jobs.definitions.arguments import ArgumentBinder, describe
from callboard.jobs.definitions.job_type import JobType, UniqueRule
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.messages import priority_of
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.derived_keys import check_names
from callboard.jobs.model.durations import parse_duration
from callboard.jobs.model.job import DEFAULT_PRIORITY, DEFAULT_QUEUE
from callboard.jobs.model.request import job_request
from callboard.jobs.model.retry import RetryPolicy
from callboard.jobs.model.unique import Unique

_DOC_LENGTH: Final = 500
_OF_MESSAGES: Final = (
    "on_success", "on_failure", "on_retry_exhausted", "pipe_ignore", "throws", "max_age", "notify_shutdown",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What `@job` says beyond a name and a queue."""

    retry: RetryPolicy
    timeout: timedelta | None
    priority: int
    hard_timeout: timedelta | None = None
    unique: Unique | None = None
    limit_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """A job that this process can run. `call` is the function itself; `is_async`: a coroutine function."""

    name: str
    queue: str
    options: JobOptions
    call: Callable[..., Any]
    is_async: bool
    binder: ArgumentBinder
    type: JobType
    #: Whether a value that cannot be kept fails the attempt. A plain actor that stores no results is not asked for one.
    needs_result: bool = True
    #: What a Dramatiq actor says of its messages, as far as the worker asks: callbacks, max_age and the like.
    message_options: Mapping[str, Any] = field(default_factory=dict)


class JobActor(dramatiq.Actor[..., Any]):
    """A Dramatiq actor that knows our options."""

    def __init__(self, fn: Callable[..., Any], *, job_options: JobOptions, **actor: Any) -> None:
        self.job_options = job_options
        super().__init__(fn, **actor)

    def enqueue(self, **kwargs: Any) -> UUID:
        """Enqueue with these arguments; returns the job's id."""
        return self.enqueue_with(kwargs)

    def enqueue_with(self, kwargs: dict[str, Any] | None = None, **options: Any) -> UUID:
        """Enqueue with arguments, and with every option that `Client.enqueue` takes (delay, unique_key, tags ...)."""
        request = job_request({"name": self.actor_name, "kwargs": kwargs or {}, **options})
        if not isinstance(self.broker, CallboardBroker):
            raise InvalidInput(
                f"the job {self.actor_name!r} was declared on a broker that is not Callboard's"
            )
        return self.broker.accept(request).id


def job(
    fn: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    queue: str = DEFAULT_QUEUE,
    retry: RetryPolicy | None = None,
    timeout: str | timedelta | None = None,
    hard_timeout: str | timedelta | None = None,
    priority: int = DEFAULT_PRIORITY,
    unique: Unique | None = None,
    limit_by: str | tuple[str, ...] = (),
) -> Any:
    """Make a function a job: a Dramatiq actor with our options. `async def` works too.

    name:     how it is called; the function's name by default.
    retry:    when a failed attempt is tried again; by default 10 attempts, exponential with full jitter.
    timeout:  how long one attempt may take (`"10m"`); no limit by default. It is interrupted then.
    hard_timeout: after this the process that runs it is killed; 30 s after the timeout by default.
    priority: 0 (first) to 9; an enqueue may say otherwise.
    unique:   one such job at a time, or for a period: `Unique(by=("account_id",))`.
    limit_by: the arguments, such as a tenant's id, by which the limits of its queue tell jobs apart.
    """
    if not 0 <= priority <= 9:  # noqa: PLR2004 - as documented
        raise InvalidInput("a job's priority lies between 0 (first) and 9", fields={"priority": "0 to 9"})
    options = JobOptions(
        retry or RetryPolicy(),
        _span(timeout),
        priority,
        _span(hard_timeout),
        unique,
        (limit_by,) if isinstance(limit_by, str) else tuple(limit_by),
    )
    if dramatiq_broker.global_broker is None:
        broker = CallboardBroker(middleware=[])
        dramatiq.set_broker(broker)
        # With the broker in place: a module of middleware may declare jobs of its own.
        broker.add_configured()
    declare = dramatiq.actor(
        actor_class=partial(JobActor, job_options=options), actor_name=name, queue_name=queue
    )
    return declare if fn is None else declare(fn)


def define(actor: dramatiq.Actor[..., Any]) -> JobDefinition:
    """The definition of an actor, ours or plain.

    A `@job`'s arguments become what its annotations say; a plain actor gets them as JSON made them, as with
    Dramatiq, and its own options (max_retries, min_backoff, max_backoff, throws, time_limit) mean what they mean there.
    """
    call = _function(actor)
    ours = isinstance(actor, JobActor)
    options = actor.job_options if isinstance(actor, JobActor) else _plain_options(actor)
    timeout = options.timeout.total_seconds() if options.timeout else None
    schema = describe(call).schema
    check_names(actor.actor_name, schema, (*(options.unique.by if options.unique else ()), *options.limit_by))
    kind = JobType(
        name=actor.actor_name,
        queue=actor.queue_name,
        schema=schema,
        priority=options.priority,
        max_attempts=options.retry.max_attempts,
        timeout=timeout,
        doc=(inspect.getdoc(call) or "")[:_DOC_LENGTH],
        hard_timeout=options.hard_timeout.total_seconds() if options.hard_timeout else None,
        unique=_rule(options.unique),
        limit_by=options.limit_by,
    )
    return JobDefinition(
        name=actor.actor_name,
        queue=actor.queue_name,
        options=options,
        call=call,
        is_async=inspect.iscoroutinefunction(call),
        binder=ArgumentBinder(call, coerce=ours),
        type=kind,
        needs_result=ours or bool(actor.options.get("store_results")),
        message_options={name: actor.options[name] for name in _OF_MESSAGES if actor.options.get(name)},
    )


def _span(value: str | timedelta | None) -> timedelta | None:
    return parse_duration(value) if isinstance(value, str) else value


def _rule(unique: Unique | None) -> UniqueRule | None:
    return None if unique is None else UniqueRule(unique.by, unique.seconds, unique.on_conflict)


def unknown(name: str, queue: str) -> JobDefinition:
    """Stands for a job that this process does not know; it is never called."""

    def call() -> None:
        raise NotImplementedError(name)

    options = JobOptions(RetryPolicy(), None, DEFAULT_PRIORITY)
    kind = JobType(name, queue, {}, DEFAULT_PRIORITY, options.retry.max_attempts, None, "")
    return JobDefinition(
        name, queue, options, call, is_async=False, binder=ArgumentBinder(call, coerce=False), type=kind
    )


def _function(actor: dramatiq.Actor[..., Any]) -> Callable[..., Any]:
    """The function that was decorated: Dramatiq wraps coroutine functions, and keeps the original."""
    wrapped = getattr(actor.fn, "__wrapped__", None)
    return wrapped if inspect.iscoroutinefunction(wrapped) else actor.fn


def _plain_options(actor: dramatiq.Actor[..., Any]) -> JobOptions:
    options = actor.options
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
    return JobOptions(policy, timeout, priority_of(actor.priority))
