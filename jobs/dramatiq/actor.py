"""`@job` makes a function a Dramatiq actor with the platform's options. Type checkers see its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, Unpack, overload

import dramatiq
from dramatiq import Message
from dramatiq import broker as dramatiq_broker
from pydantic import TypeAdapter, ValidationError

from callboard.jobs.definitions.callables import check_callable, check_decorated, name_of
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.job_names import in_namespace, job_name
from callboard.jobs.errors import InvalidInput
from callboard.jobs.lent_enqueue import enqueue_lent
from callboard.jobs.model.basics.durations import LONGEST, parse_duration
from callboard.jobs.model.basics.fields import QueueName, invalid_input
from callboard.jobs.model.current import current_source
from callboard.jobs.model.job import DEFAULT_PRIORITY, DEFAULT_QUEUE, Job
from callboard.jobs.model.request import EnqueueOptions, OptionsWithoutArgs, job_request
from callboard.jobs.model.retry import RetryPolicy
from callboard.jobs.model.unique import Unique
from callboard.jobs.postgres.callers.kinds import CallersConnection

if TYPE_CHECKING:
    from callboard.jobs.platform import Platform

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_QUEUE_NAME: Final = TypeAdapter(QueueName)
#: Options of an enqueue that a Dramatiq message would carry without effect.
_NOT_OF_MESSAGES = EnqueueOptions.__optional_keys__ - {
    "args",
    "kwargs",
    "delay",
    "min_backoff",
    "max_backoff",
}


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of `@job` besides the name and the queue."""

    retry: RetryPolicy
    timeout: timedelta | None
    priority: int
    hard_timeout: timedelta | None = None
    unique: Unique | None = None
    limit_by: tuple[str, ...] = ()
    #: The namespace that the name begins with; None: CALLBOARD_APP decides.
    namespace: str | None = None


class JobActor(dramatiq.Actor[P, R], Generic[P, R]):
    """A job. Calling it calls the function; a call of an `async def` job returns its coroutine.

    `send` and `send_with_options` are Dramatiq's. They also commit a job, and return its message.
    """

    def __init__(self, fn: Callable[P, R], *, job_options: JobOptions, **actor: Any) -> None:
        self.job_options = job_options
        #: The function itself; Dramatiq's `fn` is a blocking wrapper when the function is a coroutine
        #: function.
        self.function = fn
        super().__init__(fn, **actor)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue the job with these arguments; return it when it is committed.

        Raises the errors of `Client.enqueue`.
        """
        return self._accept({"args": list(args), "kwargs": kwargs})

    def with_options(
        self, *, connection: CallersConnection | None = None, **options: Unpack[OptionsWithoutArgs]
    ) -> "WithOptions[P]":
        """Return the job with these options, for one or more enqueues.

        connection: enqueue in this connection's transaction, as `Client.enqueue` does.

        Example: `build_report.with_options(delay="1h").enqueue(7, month="2026-10")`.
        """
        _refuse(options, "name", "args", "kwargs")
        return WithOptions(partial(self._accept, options=options, connection=connection))

    def enqueue_with(
        self,
        kwargs: Mapping[str, Any] | None = None,
        *,
        connection: CallersConnection | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Job:
        """Enqueue the job with arguments from a mapping and with options; return it when it is committed.

        connection: enqueue in this connection's transaction, as `Client.enqueue` does.
        """
        _refuse(options, "name", "kwargs")
        return self._accept({"kwargs": {} if kwargs is None else kwargs}, options, connection)

    def message_with_options(
        self, *, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Message[R]:
        """Make a Dramatiq message. Raises InvalidInput for an option that only `with_options` knows."""
        for name in _NOT_OF_MESSAGES.intersection(options):
            raise InvalidInput(
                f"{name} is not an option of a Dramatiq message; use .with_options({name}=...).enqueue(...)",
                fields={name: "an option of with_options"},
            )
        return super().message_with_options(args=args, kwargs=kwargs, **options)

    def _accept(
        self,
        arguments: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        connection: CallersConnection | None = None,
    ) -> Job:
        request = job_request({**(options or {}), **arguments, "name": job_name(self)})
        # In a worker, a broker of another kind that a module made has a platform too.
        platform: Platform | None = getattr(self.broker, "platform", None)
        if platform is None:
            raise InvalidInput(
                f"the job {self.actor_name!r} was declared on a {type(self.broker).__name__}; set Callboard's"
                " broker before its module is imported: dramatiq.set_broker(CallboardBroker())"
            )
        batch = platform.enqueue.check(request, current_source())
        if connection is not None:
            return enqueue_lent(platform, batch, connection)
        return platform.jobs.enqueued(batch, platform.enqueue.accept(batch))


class WithOptions(Generic[P]):
    """A job and the options of its next enqueues."""

    def __init__(self, accept: Callable[[Mapping[str, Any]], Job]) -> None:
        self._accept = accept

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue the job with these arguments and the options; return it when it is committed."""
        return self._accept({"args": list(args), "kwargs": kwargs})


@overload
def job(fn: Callable[P, R], /) -> JobActor[P, R]: ...


@overload
def job(
    *,
    name: str | None = None,
    queue: str = DEFAULT_QUEUE,
    retry: RetryPolicy | None = None,
    timeout: str | timedelta | None = None,
    hard_timeout: str | timedelta | None = None,
    priority: int = DEFAULT_PRIORITY,
    unique: Unique | None = None,
    limit_by: str | tuple[str, ...] = (),
    namespace: str | None = None,
) -> Callable[[Callable[P, R]], JobActor[P, R]]: ...


def job(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    queue: str = DEFAULT_QUEUE,
    retry: RetryPolicy | None = None,
    timeout: str | timedelta | None = None,
    hard_timeout: str | timedelta | None = None,
    priority: int = DEFAULT_PRIORITY,
    unique: Unique | None = None,
    limit_by: str | tuple[str, ...] = (),
    namespace: str | None = None,
) -> Any:
    """Make a function a job: a Dramatiq actor with the platform's options. `async def` works too.

    name:         the job's name; the function's name by default.
    retry:        when a failed attempt is tried again; by default 10 attempts, exponential with full jitter.
    timeout:      how long one attempt may take (`"10m"`) before it is interrupted; no limit by default.
    hard_timeout: how long one attempt may take before its process is killed; 30 s after the timeout by
                  default.
    priority:     0 (first) to 9; an enqueue may set another one.
    unique:       one unfinished job for the same arguments, or one in a period: `Unique(by=("account_id",))`.
    limit_by:     the arguments whose values make the limit key, such as a tenant's id: each key has its own
                  limits in the queue.
    namespace:    what the name begins with: `billing` makes it `billing.notify`; CALLBOARD_APP by default.

    Raises InvalidInput when an option is not valid, and for what cannot be a job, such as a generator.
    """
    if not isinstance(priority, int) or not 0 <= priority <= 9:  # noqa: PLR2004 - as documented
        raise InvalidInput("a job's priority is between 0 (first) and 9", fields={"priority": "0 to 9"})
    try:
        _QUEUE_NAME.validate_python(queue)
    except ValidationError as error:
        raise invalid_input(error, prefix="queue") from None
    options = JobOptions(
        _typed("retry", retry, RetryPolicy, "RetryPolicy(max_attempts=3)") or RetryPolicy(),
        _span("timeout", timeout),
        priority,
        _span("hard_timeout", hard_timeout),
        _typed("unique", unique, Unique, 'Unique(by=("account_id",))'),
        (limit_by,) if isinstance(limit_by, str) else tuple(limit_by),
        namespace,
    )
    if dramatiq_broker.global_broker is None:
        broker = CallboardBroker(middleware=[])
        dramatiq.set_broker(broker)
        # The broker must be set first, because a middleware module may define jobs too.
        broker.add_configured()

    def declare(function: Callable[..., Any]) -> Any:
        actor = dramatiq.actor(
            actor_class=partial(JobActor, job_options=options),
            actor_name=in_namespace(_checked(function, name), namespace),
            queue_name=queue,
        )
        return actor(function)

    return declare if fn is None else declare(fn)


def _checked(function: Any, given: str | None) -> str:
    """Return the name of the job. Raises InvalidInput when no job can be made of the function."""
    if isinstance(function, dramatiq.Actor):
        raise InvalidInput(
            f"{function.actor_name!r} is a job already; decorate the function once, or make another job of"
            " its function: job(name=...)(the_function)"
        )
    check_decorated(function)
    name = name_of(function, given)
    check_callable(function, what=f"the job {name!r}")
    if not hasattr(function, "__module__"):
        raise InvalidInput(f"{function!r:.100} belongs to no module; wrap it in a function")
    return name


def _refuse(options: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name in options:
            raise InvalidInput(f"{name} is not an option here", fields={name: "not an option here"})


def _typed(option: str, value: T | None, kind: type[T], example: str) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise InvalidInput(
            f"a job's {option} is a {kind.__name__}, such as {example}, not {value!r:.100}",
            fields={option: f"such as {example}"},
        )
    return value


def _span(option: str, value: str | timedelta | None) -> timedelta | None:
    """Return the length of a timeout. Raises InvalidInput for a bare number: its unit is not known."""
    span = parse_duration(value) if isinstance(value, str) else value
    if span is None or (isinstance(span, timedelta) and timedelta(0) < span <= LONGEST):
        return span
    raise InvalidInput(
        f'a job\'s {option} is a duration above zero, such as "30s" or timedelta(seconds=30),'
        f" not {value!r:.100}",
        fields={option: "a duration above zero"},
    )
