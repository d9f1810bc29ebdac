"""Webhook intake: manage sources, and accept their requests."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue.batcher import Batcher
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import CallboardError, Conflict, Duplicate, InvalidInput, NotFound
from callboard.jobs.metric_labels import Bounded
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.fields import Handle, JobName, Label, invalid_input
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.postgres.database import Database
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.deliveries import WRITERS, Deliveries
from callboard.jobs.webhooks.delivery import Accepted, Incoming
from callboard.jobs.webhooks.payload import body_form
from callboard.jobs.webhooks.schemes import SCHEMES
from callboard.jobs.webhooks.secret_box import SecretBox
from callboard.jobs.webhooks.source import WebhookSource
from callboard.jobs.webhooks.sources import WebhookSources, no_source

WEBHOOK_REQUESTS: Final = Bounded(
    Counter(
        "callboard_webhook_requests_total", "Requests to a webhook source, by result.", ["source", "result"]
    ),
    fixed=["result"],
)

BODIES_KEPT: Final = Bounded(
    Counter(
        "callboard_webhook_bodies_kept_total",
        "Deliveries whose raw body is kept, because the job's arguments do not hold all of it.",
        ["source", "result"],
    ),
    fixed=["result"],
)

log = structlog.get_logger(__name__)


class SourceRequest(BaseModel):
    """A request to create a webhook source. Without `secret`, a new secret is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Handle
    scheme: str
    job: JobName
    events: list[Label] = Field(default_factory=list, max_length=50)
    secret: str | None = Field(default=None, max_length=512)
    unchecked: bool = False


def source_request(values: Mapping[str, Any]) -> SourceRequest:
    """Make a SourceRequest from a caller's values. Raises InvalidInput, which names each bad field."""
    try:
        return SourceRequest.model_validate(dict(values))
    except ValidationError as error:
        raise invalid_input(error) from None


class Intake:
    """Manages webhook sources and accepts their requests.

    A source's job gets three arguments: `event` (a text), `delivery_id` (the sender's id) and `payload` (the
    JSON that was sent; null when arguments cannot hold it, and then the raw body is kept).
    """

    def __init__(
        self,
        database: Database,
        enqueue: Enqueue,
        catalogue: Catalogue,
        box: SecretBox,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._box = box
        self._sources = WebhookSources(database, clock=clock)
        self._deliveries = Deliveries(database, enqueue, catalogue, self._sources, box, clock)
        self._batcher: Batcher[Incoming, Accepted] = Batcher(
            "deliveries", self._deliveries.receive_all, threads=WRITERS
        )

    def create(self, request: SourceRequest) -> tuple[WebhookSource, str]:
        """Create a source; return it with its signing secret, which is shown only once.

        With CALLBOARD_APP, a job of this application is found by its bare name first.
        The secret is the one that is stored: what is pasted around a given secret is removed, and a Standard
        Webhooks secret gets its usual form.
        """
        scheme = SCHEMES.get(request.scheme)
        if scheme is None:
            known = ", ".join(sorted(SCHEMES))
            raise InvalidInput(
                f"no scheme is called {request.scheme[:40]!r} ({known})", fields={"scheme": known}
            )
        request = request.model_copy(update={"job": self._catalogue.full_name(request.job)})
        if not request.unchecked:
            sample = {"event": "", "delivery_id": "", "payload": {}}
            self._catalogue.choose(request.job, [], sample)
        secret = scheme.clean_secret(scheme.new_secret() if request.secret is None else request.secret)
        values = {
            "id": new_id(), "name": request.name, "scheme": request.scheme, "job": request.job,
            "events": request.events, "secrets": [self._box.encrypt(secret)],
        }  # fmt: skip
        try:
            source = self._database.retrying(lambda connection: repository.create(connection, values))
        except Duplicate:
            raise Conflict(f"there is already a webhook source called {request.name!r}") from None
        self._sources.forget(source.name)
        log.info("webhook_source.created", source=source.name, scheme=source.scheme, job=source.job)
        return source, secret

    def every(self) -> list[WebhookSource]:
        with self._database.autocommit() as connection:
            return repository.every(connection)

    def delete(self, name: str) -> None:
        """Delete a source and its deliveries. The jobs that it enqueued stay."""
        if not self._database.retrying(lambda connection: repository.delete(connection, name)):
            raise no_source(name)
        self._sources.forget(name)
        log.info("webhook_source.deleted", source=name)

    def receive(self, incoming: Incoming) -> Accepted:
        """Accept a request from a thread. When this returns, it is committed.

        Raises NotFound, UnsupportedMediaType, Unauthorized (the signature), InvalidInput (no id),
        UnknownJob or InvalidArguments (the source's job does not accept it), Unavailable. In each case
        nothing is stored.
        """
        with self._recording(incoming.source) as results:
            results.append(self._batcher.run(incoming))
        return results[0]

    async def receive_async(
        self,
        source: str,
        headers: Mapping[str, str],
        read_body: Callable[[], Awaitable[bytes]],
        request_id: str | None = None,
    ) -> Accepted:
        """Do what `receive` does, from a coroutine. Requests at the same time share a transaction.

        The body is read only if the source exists and the headers declare a body that can be read.
        """
        with self._recording(source) as results:
            await self._sources.find(source)
            body_form(headers)
            incoming = Incoming(source, headers, await read_body(), request_id)
            results.append(await self._batcher.run_async(incoming, size=len(incoming.body)))
        return results[0]

    def close(self) -> None:
        """Store the waiting requests, refuse new ones, and close the connections."""
        self._sources.close()
        self._batcher.close()
        self._deliveries.close()

    @contextmanager
    def _recording(self, name: str) -> Iterator[list[Accepted]]:
        """Count and log the result of a request."""
        results: list[Accepted] = []
        try:
            yield results
        except CallboardError as error:
            source = self._label(name)
            WEBHOOK_REQUESTS.labels(source, error.code.lower()).inc()
            if not isinstance(error, NotFound):
                log.warning("webhook.refused", source=source, code=error.code, reason=error.message)
            raise
        [accepted] = results
        source = self._label(name)
        WEBHOOK_REQUESTS.labels(source, accepted.result).inc()
        log.info(
            "webhook.received",
            source=source,
            result=accepted.result,
            delivery_id=str(accepted.delivery_id),
            job_ids=[str(job) for job in accepted.job_ids],
        )
        if accepted.aside is not None:
            BODIES_KEPT.labels(source, accepted.aside.result.value).inc()
            log.warning(
                "webhook.body_kept",
                source=source,
                delivery_id=str(accepted.delivery_id),
                result=accepted.aside.result.value,
                reason=accepted.aside.reason,
            )
        if accepted.result == "duplicate_mismatch":
            log.warning(
                "webhook.body_mismatch",
                source=source,
                delivery_id=str(accepted.delivery_id),
                job_ids=[str(job_id) for job_id in accepted.job_ids],
            )

    def _label(self, source: str) -> str:
        # An unknown source name must not become a label: callers can invent any number of names.
        return source if self._sources.knows(source) else "(unknown)"
