"""Webhook intake: the sources, and what becomes of each request to one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import IntegrityError

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import CallboardError, Conflict, InvalidInput, NotFound
from callboard.jobs.model.clock import SYSTEM, Clock
from callboard.jobs.model.fields import Handle, JobName, Label, invalid_input
from callboard.jobs.model.ids import new_id
from callboard.jobs.postgres.database import Database
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.deliveries import Accepted, Deliveries, Incoming
from callboard.jobs.webhooks.schemes import SCHEMES
from callboard.jobs.webhooks.secret_box import SecretBox
from callboard.jobs.webhooks.source import WebhookSource
from callboard.jobs.webhooks.sources import WebhookSources

WEBHOOK_REQUESTS: Final = Counter(
    "callboard_webhook_requests_total",
    "Requests to a webhook source, by what became of them.",
    ["source", "result"],
)

log = structlog.get_logger(__name__)


class SourceRequest(BaseModel):
    """A webhook source as a caller asks for it. Without `secret` one is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Handle
    scheme: str
    job: JobName
    events: list[Label] = Field(default_factory=list, max_length=50)
    secret: str | None = Field(default=None, max_length=512)
    unchecked: bool = False


def source_request(values: Mapping[str, Any]) -> SourceRequest:
    """Read a source from loose values; raises InvalidInput that names each field."""
    try:
        return SourceRequest.model_validate(dict(values))
    except ValidationError as error:
        raise invalid_input(error) from None


class Intake:
    """Webhook sources, and what they send.

    The job of a source gets three arguments: `event` (text), `delivery_id` (the sender's own id) and
    `payload` (the JSON that was sent).
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

    def create(self, request: SourceRequest) -> tuple[WebhookSource, str]:
        """Make a source; returns it with its signing secret, which is shown this once."""
        scheme = SCHEMES.get(request.scheme)
        if scheme is None:
            known = ", ".join(sorted(SCHEMES))
            raise InvalidInput(
                f"no scheme is called {request.scheme[:40]!r} ({known})", fields={"scheme": known}
            )
        if not request.unchecked:
            sample = {"event": "", "delivery_id": "", "payload": {}}
            self._catalogue.get(request.job).checker.check([], sample)
        secret = request.secret if request.secret is not None else scheme.new_secret()
        scheme.check_secret(secret)
        values = {
            "id": new_id(), "name": request.name, "scheme": request.scheme, "job": request.job,
            "events": request.events, "secrets": [self._box.encrypt(secret)],
        }  # fmt: skip
        try:
            with self._database.transaction() as connection:
                source = repository.create(connection, values)
        except IntegrityError:
            raise Conflict(f"there is a webhook source called {request.name!r} already") from None
        self._sources.forget(source.name)
        log.info("webhook_source.created", source=source.name, scheme=source.scheme, job=source.job)
        return source, secret

    def every(self) -> list[WebhookSource]:
        with self._database.autocommit() as connection:
            return repository.every(connection)

    def delete(self, name: str) -> None:
        """Remove a source and its record of deliveries; jobs that it made stay."""
        with self._database.transaction() as connection:
            if not repository.delete(connection, name):
                raise NotFound(f"there is no webhook source {name[:100]!r}")
        self._sources.forget(name)
        log.info("webhook_source.deleted", source=name)

    def receive(self, incoming: Incoming) -> Accepted:
        """Take a request in; when this returns, it is committed.

        Raises NotFound, Unauthorized (the signature), InvalidInput (no JSON, no id), UnknownJob or
        InvalidArguments (the source's job does not take it); in each case nothing is kept.
        """
        return self.heard(incoming, self.receive_all([incoming])[0])

    def receive_all(self, group: Sequence[Incoming]) -> list[Accepted | Exception]:
        """As `receive` for many in one transaction; each hears its own error, and `heard` is to hear of each."""
        return self._deliveries.receive_all(group)

    def heard(self, incoming: Incoming, outcome: Accepted | Exception) -> Accepted:
        """Count and log what became of a request; returns it, or raises it."""
        # A name that is none is no label: anybody may think of any number of them.
        source = incoming.source if self._sources.knows(incoming.source) else "(unknown)"
        if isinstance(outcome, CallboardError):
            WEBHOOK_REQUESTS.labels(source, outcome.code.lower()).inc()
            if not isinstance(outcome, NotFound):
                log.warning("webhook.refused", source=source, code=outcome.code, reason=outcome.message)
        if isinstance(outcome, Exception):
            raise outcome
        WEBHOOK_REQUESTS.labels(source, outcome.result).inc()
        log.info(
            "webhook.received", source=source, result=outcome.result, delivery_id=str(outcome.delivery_id)
        )
        return outcome
