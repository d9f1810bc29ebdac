"""Webhook deliveries: verify the raw bytes, then, in one transaction for all that came together, de-duplicate, keep and enqueue."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue.batch import NewJob
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.enqueue.isolate import together
from callboard.jobs.enqueue.repository import inserting
from callboard.jobs.enqueue.unique_keys import Outcome
from callboard.jobs.errors import Busy, CallboardError, Conflict, InvalidInput, NotFound
from callboard.jobs.model.clock import Clock
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.ids import new_id
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.postgres.database import Database
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.delivery import Kept, NewDelivery
from callboard.jobs.webhooks.schemes import SCHEMES
from callboard.jobs.webhooks.secret_box import SecretBox
from callboard.jobs.webhooks.source import WebhookSource
from callboard.jobs.webhooks.sources import KnownSource, WebhookSources


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request to a source, as it came. `headers` have lower-case names; `body` is the raw bytes that were signed."""

    source: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a request came to. A handshake has no delivery; a duplicate has the first one's.

    result: accepted | duplicate | ignored (the source does not listen to the event) | handshake.
    """

    delivery_id: UUID | None
    job_ids: list[UUID]
    duplicate: bool
    result: str


@dataclass(frozen=True, slots=True)
class _Verified:
    """A delivery whose sender is proven; its job, none, or why it cannot be one, which a duplicate need not hear."""

    delivery: NewDelivery
    job: NewJob | None
    refusal: CallboardError | None


class _Changed(Exception):
    """The source is no longer what it was when it vouched for the delivery."""


_HANDSHAKE: Final = Accepted(None, [], duplicate=False, result="handshake")


class Deliveries:
    """Takes in what sources send.

    Sources are remembered for a few seconds, and yet nothing is accepted, and nobody refused, on what has changed:
    whatever is kept is held against its source once more in the statement that keeps it, and whoever
    is answered otherwise on the strength of what was remembered is looked at again.
    """

    def __init__(
        self,
        database: Database,
        enqueue: Enqueue,
        catalogue: Catalogue,
        sources: WebhookSources,
        box: SecretBox,
        clock: Clock,
    ) -> None:
        self._database = database
        self._enqueue = enqueue
        self._catalogue = catalogue
        self._sources = sources
        self._secret = lru_cache(maxsize=1_000)(box.decrypt)
        self._clock = clock

    def receive_all(self, group: Sequence[Incoming]) -> list[Accepted | Exception]:
        """What became of each, in order, once it is committed; an error is its own, and of that one nothing is kept."""
        begun = self._clock.monotonic()
        told, known = self._attempt(group, since=float("-inf"))
        remembered = {name for name, source in known.items() if source.read_at < begun}
        doubtful = [
            index
            for index, outcome in enumerate(told)
            if isinstance(outcome, _Changed) or (_is_unproven(outcome) and group[index].source in remembered)
        ]
        if doubtful:
            again, _ = self._attempt([group[index] for index in doubtful], since=begun)
            for index, outcome in zip(doubtful, again, strict=True):
                told[index] = outcome
        return [
            Busy("the webhook source is being changed; try again") if isinstance(one, _Changed) else one
            for one in told
        ]

    def _attempt(
        self, group: Sequence[Incoming], *, since: float
    ) -> tuple[list[Accepted | Exception], dict[str, KnownSource]]:
        """What became of each, and the sources as they were known, by name."""
        try:
            known = self._sources.named({one.source for one in group}, since=since)
        except Exception as error:  # noqa: BLE001 - they all hear it
            return [error for _ in group], {}
        checked = [self._check(one, known.get(one.source)) for one in group]
        verified = [one for one in checked if isinstance(one, _Verified)]
        kept = iter(together(verified, self._keep, has_key=_has_key))
        return [next(kept) if isinstance(one, _Verified) else one for one in checked], known

    def _check(self, one: Incoming, known: KnownSource | None) -> _Verified | Accepted | Exception:
        if known is None:
            return NotFound(f"there is no webhook source {one.source[:100]!r}")
        try:
            return self._verify(known.source, one.headers, one.body)
        except Exception as error:  # noqa: BLE001 - whatever it is, its own sender hears it
            return error

    def _verify(self, source: WebhookSource, headers: Mapping[str, str], body: bytes) -> _Verified | Accepted:
        secrets = [self._secret(secret) for secret in source.secrets]
        verified = SCHEMES[source.scheme].verify(headers, body, secrets, self._clock.now())
        if verified.handshake:
            return _HANDSHAKE
        payload = _json(body)
        delivery_id = new_id()
        job, refusal = None, None
        if not source.events or verified.event in source.events:
            kwargs = {"event": verified.event, "delivery_id": verified.external_id, "payload": payload}
            try:
                job = self._job(source.job, kwargs, delivery_id)
            except CallboardError as error:
                refusal = error
        delivery = NewDelivery(
            id=delivery_id,
            source_id=source.id,
            source_version=source.version,
            external_id=verified.external_id,
            event=verified.event,
            body_sha256=hashlib.sha256(body).hexdigest(),
            job_id=job.id if job else None,
        )
        return _Verified(delivery, job, refusal)

    def _job(self, name: str, kwargs: dict[str, Any], delivery_id: UUID) -> NewJob:
        # A delivery is not refused because no worker has published the job yet: one to come will know it.
        unchecked = self._catalogue.find(name) is None
        request = JobRequest(name=name, kwargs=kwargs, unchecked=unchecked)
        return self._enqueue.check(request, Source("webhook", str(delivery_id)))

    def _keep(self, group: Sequence[_Verified], patience: timedelta) -> list[Accepted | Exception]:
        written = self._database.retrying(
            lambda connection: self._write(connection, group, patience),
            direct=self._enqueue.is_direct([one.job for one in group if one.job is not None]),
        )
        if written.jobs:
            self._enqueue.committed(written.jobs, written.outcomes, written.hints)
        return [_told(one, written) for one in group]

    def _write(self, connection: Connection, group: Sequence[_Verified], patience: timedelta) -> "_Written":
        # The lock's patience comes first: a delivery may wait for another transaction as a unique key does.
        inserting.be_patient(connection, patience)
        usable = [one.delivery for one in group if one.refusal is None]
        new = repository.accept(connection, usable)
        jobs = [one.job for one in group if one.job is not None and one.delivery.id in new]
        outcomes, hints = self._enqueue.each_within(connection, jobs, patience=patience) if jobs else ([], [])
        became = {}
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                # It must fail alone: the transaction is undone, and done again without it.
                raise outcome
            became[job.id] = outcome.id
        others = {
            one.delivery.id: became[one.job.id]
            for one in group
            if one.job is not None and became.get(one.job.id, one.job.id) != one.job.id
        }
        if others:
            repository.attach(connection, others)
        missed = [one.delivery for one in group if one.delivery.id not in new]
        first = repository.earlier(connection, missed) if missed else {}
        return _Written(new, first, became, jobs, outcomes, hints)


class _Written(NamedTuple):
    """What a transaction wrote. `first`: who had an id before; `became`: by the id of each new job, the job that now stands."""

    new: set[UUID]
    first: dict[tuple[UUID, str], Kept]
    became: dict[UUID, UUID]
    jobs: list[NewJob]
    outcomes: list[Outcome]
    hints: list[Hint]


def _is_unproven(outcome: Accepted | Exception) -> bool:
    """Whether no statement has held it against its source."""
    return outcome == _HANDSHAKE or isinstance(outcome, CallboardError)


def _told(one: _Verified, written: _Written) -> Accepted | Exception:
    delivery = one.delivery
    if delivery.id in written.new:
        if one.job is None:
            return Accepted(delivery.id, [], duplicate=False, result="ignored")
        return Accepted(delivery.id, [written.became[one.job.id]], duplicate=False, result="accepted")
    first = written.first.get((delivery.source_id, delivery.external_id))
    if first is not None:
        jobs = [] if first.job_id is None else [first.job_id]
        return Accepted(first.id, jobs, duplicate=True, result="duplicate")
    return one.refusal or _Changed()


def _has_key(one: _Verified) -> bool:
    return one.job is not None and one.job.unique_key is not None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}", fields={"body": "JSON is expected"}) from None
