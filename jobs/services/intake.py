"""Webhook intake: verify the raw bytes, then, in one transaction, de-duplicate, keep and enqueue."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
import structlog
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import IntegrityError

from jobs.clock import SYSTEM, Clock
from jobs.database import Database
from jobs.errors import CallboardError, Conflict, InvalidInput, NotFound
from jobs.ids import new_id
from jobs.records import Source
from jobs.repositories import webhooks
from jobs.repositories.webhooks import WebhookSource
from jobs.requests import Handle, JobName, JobRequest, Label, invalid_input
from jobs.schemes import SCHEMES
from jobs.secrets import SecretBox
from jobs.services.catalogue import Catalogue
from jobs.services.enqueue import Enqueue

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


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a request came to. A handshake has no delivery; a duplicate has the first one's."""

    delivery_id: UUID | None
    job_ids: list[UUID]
    duplicate: bool


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
        self._enqueue = enqueue
        self._catalogue = catalogue
        self._box = box
        self._clock = clock

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
                source = webhooks.create(connection, values)
        except IntegrityError:
            raise Conflict(f"there is a webhook source called {request.name!r} already") from None
        log.info("webhook_source.created", source=source.name, scheme=source.scheme, job=source.job)
        return source, secret

    def every(self) -> list[WebhookSource]:
        with self._database.autocommit() as connection:
            return webhooks.every(connection)

    def delete(self, name: str) -> None:
        """Remove a source and its record of deliveries; jobs that it made stay."""
        with self._database.transaction() as connection:
            if not webhooks.delete(connection, name):
                raise NotFound(f"there is no webhook source {name[:100]!r}")
        log.info("webhook_source.deleted", source=name)

    def receive(self, name: str, headers: Mapping[str, str], body: bytes) -> Accepted:
        """Take a request in. `headers` have lower-case names; `body` is the raw bytes that were signed.

        Raises NotFound, Unauthorized (the signature), InvalidInput (no JSON, no id), UnknownJob or
        InvalidArguments (the source's job does not take it); in each case nothing is kept.
        """
        with self._database.autocommit() as connection:
            source = webhooks.get(connection, name)
        if source is None:
            WEBHOOK_REQUESTS.labels("(unknown)", "not_found").inc()
            raise NotFound(f"there is no webhook source {name[:100]!r}")
        try:
            accepted, result = self._receive(source, headers, body)
        except CallboardError as error:
            WEBHOOK_REQUESTS.labels(source.name, error.code.lower()).inc()
            log.warning("webhook.refused", source=source.name, code=error.code, reason=error.message)
            raise
        WEBHOOK_REQUESTS.labels(source.name, result).inc()
        log.info("webhook.received", source=source.name, result=result, delivery_id=str(accepted.delivery_id))
        return accepted

    def _receive(
        self, source: WebhookSource, headers: Mapping[str, str], body: bytes
    ) -> tuple[Accepted, str]:
        secrets = [self._box.decrypt(secret) for secret in source.secrets]
        verified = SCHEMES[source.scheme].verify(headers, body, secrets, self._clock.now())
        if verified.handshake:
            return Accepted(None, [], duplicate=False), "handshake"
        payload = _json(body)
        delivery = {
            "id": new_id(), "source_id": source.id, "external_id": verified.external_id, "event": verified.event,
            "body_sha256": hashlib.sha256(body).hexdigest(),
        }  # fmt: skip
        wanted = not source.events or verified.event in source.events
        request = JobRequest(
            name=source.job,
            kwargs={"event": verified.event, "delivery_id": verified.external_id, "payload": payload},
            # A delivery is not refused because no worker has published the job yet: one to come will know it.
            unchecked=self._catalogue.find(source.job) is None,
        )
        with self._database.transaction() as connection:
            kept = webhooks.accept(connection, delivery)
            if kept is None:
                first = webhooks.earlier(connection, source.id, verified.external_id)
                return Accepted(first.id, _ids(first.job_id), duplicate=True), "duplicate"
            if not wanted:
                return Accepted(kept.id, [], duplicate=False), "ignored"
            receipt = self._enqueue.within(connection, [request], Source("webhook", str(kept.id)))[0]
            webhooks.attach(connection, kept.id, receipt.id)
        return Accepted(kept.id, [receipt.id], duplicate=False), "accepted"


def _ids(job: UUID | None) -> list[UUID]:
    return [] if job is None else [job]


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}", fields={"body": "JSON is expected"}) from None
