"""The brokers that jobs' modules make: in a worker, they are this worker's, whatever their class.

Programs written for Dramatiq make a broker of their own, such as `RedisBroker(url=...)`, and call
`set_broker`. The worker runs their actors with the middleware of their broker, and messages that are sent by
any of these brokers become jobs in Postgres. No such broker connects to its own server.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import dramatiq
import structlog
from dramatiq import Actor, Message
from dramatiq import broker as dramatiq_broker
from dramatiq.encoder import JSONEncoder
from dramatiq.errors import QueueNotFound
from dramatiq.message import get_encoder
from dramatiq.middleware import GroupCallbacks, Middleware
from dramatiq.results import Results
from dramatiq.results.middleware import DEFAULT_RESULT_TTL

from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.dramatiq.stock import REPLACED, overridden_hooks, uncalled_hooks
from callboard.jobs.model.basics.fields import is_job_name
from callboard.workers.execute.worker_broker import WorkerBroker

log = structlog.get_logger(__name__)


class BrokerAdoption:
    """Watches which brokers and actors modules make, and lets them work for this worker."""

    def __init__(self, worker: WorkerBroker) -> None:
        self._worker = worker
        #: Whether the modules are imported. A broker that is made later is one that a job makes.
        self._settled = False
        #: The classes whose methods are replaced already, with the names.
        self._replaced: set[tuple[type, str]] = set()
        self._undo = ExitStack()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Adopt the brokers that are made in this block."""
        with self._undo:
            self._watch()
            yield

    def begin(self) -> None:
        """Adopt the brokers that are made from now on, until the process ends."""
        self._watch()

    def _watch(self) -> None:
        make, declare, add = (
            dramatiq.Broker.__init__, dramatiq.Broker.declare_actor, dramatiq.Broker.add_middleware,
        )  # fmt: skip
        adoption = self

        def made(broker: dramatiq.Broker, *args: Any, **kwargs: Any) -> None:
            # A bare Broker is a probe of our own, or of an integration. It can do nothing.
            is_new = type(broker) is not dramatiq.Broker and broker not in adoption._worker.adopted
            if is_new:
                adoption._prepare(broker)
            make(broker, *args, **kwargs)
            if is_new:
                adoption._take(broker)

        def declared(broker: dramatiq.Broker, actor: Actor[..., Any]) -> None:
            declare(broker, actor)
            if broker is not adoption._worker:
                adoption._keep(broker)
                adoption._worker.adopt_actor(actor, broker)

        def added(broker: dramatiq.Broker, middleware: Middleware, **place: Any) -> None:
            add(broker, middleware, **place)
            if adoption._settled and isinstance(middleware, Results | GroupCallbacks):
                adoption._give_backends(broker)

        self._set(dramatiq.Broker, "__init__", made)
        self._set(dramatiq.Broker, "add_middleware", added)
        self._set(dramatiq.Broker, "declare_actor", declared)

    def settle(self) -> None:
        """Complete the adoption after the modules are imported, and log what cannot be honoured."""
        worker = self._worker
        self._settled = True
        if dramatiq.Broker.__init__.__module__ != __name__:
            # An integration such as Sentry's adds middleware to each new broker. The worker's is older.
            probe = [one for one in dramatiq.Broker().middleware if type(one) not in REPLACED]
            worker.add_missing(probe, first=True)
        for broker in worker.adopted:
            self._give_backends(broker)
            # A middleware module may have made this broker before the middleware was loaded.
            self._add_configured(broker)
            log.info("broker.adopted", broker=type(broker).__name__, actors=len(broker.actors))
        current = dramatiq_broker.global_broker
        if current is not None and current in worker.adopted:
            worker.default_home = current
        worker.middleware = list(worker.middleware)
        for what, reason in not_honoured(worker):
            log.warning("worker.not_honoured", what=what, reason=reason)

    def _prepare(self, broker: dramatiq.Broker) -> None:
        """Keep a broker from its own server, before it is made."""
        worker, values = self._worker, vars(broker)
        values["platform"] = worker.platform
        if isinstance(broker, CallboardBroker):
            # The middleware of CALLBOARD_MIDDLEWARE is made once for a process.
            values["add_configured"] = lambda: self._add_configured(broker)
        else:
            lineage = [kind for kind in type(broker).__mro__ if issubclass(kind, dramatiq.Broker)][:-1]
            for name, method in _methods(worker).items():
                own = [kind for kind in lineage if name in vars(kind)]
                # A program's subclass of a broker may do more in `enqueue`, so its base is changed.
                self._replace(own[-1] if own else lineage[-1], name, method)

    def _take(self, broker: dramatiq.Broker) -> None:
        if not isinstance(broker, CallboardBroker):
            self._add_configured(broker)
        if not self._settled:
            self._keep(broker)
        else:
            self._give_backends(broker)

    def _keep(self, broker: dramatiq.Broker) -> None:
        """Add a broker to those whose hooks are called.

        A job that makes a broker each time it runs would add one each time. So a broker that is made after
        the imports is added only when an actor is declared on it.
        """
        if broker not in self._worker.adopted:
            self._worker.adopted.append(broker)

    def _add_configured(self, broker: dramatiq.Broker) -> None:
        for one in self._worker.configured:
            if one not in broker.middleware:
                broker.add_middleware(one)

    def _give_backends(self, broker: dramatiq.Broker) -> None:
        """Give a broker our backends of results and of group callbacks. A CallboardBroker has them."""
        if isinstance(broker, CallboardBroker):
            return
        ours = {type(one).__bases__[1]: one for one in self._worker.stand_ins}
        for kind in (Results, GroupCallbacks):
            if not any(isinstance(one, kind) for one in broker.middleware):
                broker.middleware.append(ours[kind])
        backend = self._worker.get_results_backend()
        limits: Any = ours[GroupCallbacks]
        for one in broker.middleware:
            if isinstance(one, Results):
                if one.backend is not backend:
                    self._worker.backends_replaced.append(one.backend)
                # A program may pass its backend to `get_result`.
                vars(one.backend)["get_result"] = backend.get_result
                one.backend = backend
            elif isinstance(one, GroupCallbacks):
                one.rate_limiter_backend = limits.rate_limiter_backend

    def _replace(self, kind: type, name: str, method: Callable[..., Any]) -> None:
        if (kind, name) not in self._replaced:
            self._replaced.add((kind, name))
            self._set(kind, name, method)

    def _set(self, kind: type, name: str, value: Any) -> None:
        before = vars(kind).get(name, _ABSENT)
        setattr(kind, name, value)
        if before is _ABSENT:
            self._undo.callback(delattr, kind, name)
        else:
            self._undo.callback(setattr, kind, name, before)


_ABSENT: Final = object()
#: The attribute of an adopted broker that holds the names of its declared queues.
_QUEUES: Final = "callboard_queues"


def _methods(worker: WorkerBroker) -> dict[str, Callable[..., Any]]:
    """Return the methods that take the place of those of a broker with a server of its own."""

    def enqueue(_: Any, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        return worker.enqueue(message, delay=delay)

    def declare_queue(self: Any, queue_name: str, **_: Any) -> None:
        queues = vars(self).setdefault(_QUEUES, {})
        if queue_name not in queues:
            self.emit_before("declare_queue", queue_name)
            queues[queue_name] = None
            worker.queues.setdefault(queue_name, None)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self: Any) -> set[str]:
        return set(vars(self).get(_QUEUES, ()))

    def get_declared_delay_queues(_: Any) -> set[str]:
        return set()

    def join(
        self: Any, queue_name: str, *, interval: int = 100, timeout: int | None = None, **_: Any
    ) -> None:
        worker.join(_declared(self, queue_name), interval=interval, timeout=timeout)

    def flush(self: Any, queue_name: str) -> None:
        worker.flush(_declared(self, queue_name))

    def flush_all(self: Any) -> None:
        for queue_name in get_declared_queues(self):
            worker.flush(queue_name)

    def consume(_: Any, *_args: Any, **_options: Any) -> dramatiq.Consumer:
        raise RuntimeError("this worker takes the jobs of this broker; it needs no other consumer")

    def close(_: Any) -> None:
        """Do nothing: this broker has no connection."""

    return {
        method.__name__: method
        for method in (
            enqueue, declare_queue, get_declared_queues, get_declared_delay_queues, join, flush, flush_all,
            consume, close,
        )
    }  # fmt: skip


def _declared(broker: Any, queue_name: str) -> str:
    if queue_name not in vars(broker).get(_QUEUES, ()):
        raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
    return queue_name


def not_honoured(worker: WorkerBroker) -> Iterator[tuple[str, str]]:
    """Return what the modules ask for and a worker does not do, each with the reason."""
    if type(get_encoder()) is not JSONEncoder:
        yield f"the encoder {type(get_encoder()).__name__}", "messages are stored as JSON"
    for broker in (*worker.adopted, worker):
        if getattr(broker, "max_priority", None) is not None:
            yield f"{type(broker).__name__}(max_priority=...)", "the priority of a job is that of its actor"
        for one in broker.middleware:
            name = type(one).__name__
            for hook in overridden_hooks(one):
                yield f"{name}.{hook}", "Callboard does the work of the middleware that it inherits from"
            for hook in uncalled_hooks(one):
                yield f"{name}.{hook}", "Callboard has no delay queues"
            if one.forks:
                yield f"the forks of {name}", "a worker starts no processes for middleware"
            if isinstance(one, Results) and one.result_ttl != DEFAULT_RESULT_TTL:
                yield f"{name}(result_ttl=...)", _RESULTS
    for backend in worker.backends_replaced:
        if not type(backend).__module__.startswith("dramatiq."):
            yield f"the result backend {type(backend).__name__}", "results are stored with their jobs"
    for name in sorted(worker.actors):
        if not is_job_name(name):
            yield f"the name of the actor {name}", "no job can have this name, so messages to it are refused"
    timed = sorted(name for name, actor in worker.actors.items() if actor.options.get("result_ttl"))
    if timed:
        yield f"result_ttl of {', '.join(timed[:10])}", _RESULTS


_RESULTS: Final = "a result is kept as long as its job; CALLBOARD_RETENTION sets how long"
