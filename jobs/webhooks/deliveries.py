"""Webhook deliveries: verify the raw bytes, then store the deliveries and enqueue their jobs.

One transaction does this for all requests that arrived together. It also leaves out duplicates.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from pydantic import ValidationError

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue.batcher import isolate_failures
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.enqueue.repository import inserting
from callboard.jobs.errors import (
    Busy,
    CallboardError,
    InvalidInput,
    Unavailable,
    UnsupportedMediaType,
)
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.new_job import NewJob, batch_of
from callboard.jobs.model.receipt import Written, WrittenMixed
from callboard.jobs.model.unreadable import RowProblem
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.rows.ledger import LEDGER
from callboard.jobs.postgres.statements import KeptConnections
from callboard.jobs.webhooks import repository
from callboard.jobs.webhooks.delivery import Accepted, Incoming, NewDelivery, StoredDelivery
from callboard.jobs.webhooks.delivery_jobs import DeliveryJobs
from callboard.jobs.webhooks.payload import Aside, BodyForm, body_form, read_payload
from callboard.jobs.webhooks.schemes import SCHEMES
from callboard.jobs.webhooks.secret_box import SecretBox
from callboard.jobs.webhooks.source import WebhookSource
from callboard.jobs.webhooks.sources import KnownSource, WebhookSources, no_source

log = structlog.get_logger(__name__)

#: How many groups of deliveries are written at the same time, each on its own connection.
WRITERS: Final = 2


@dataclass(frozen=True, slots=True)
class _Verified:
    """A delivery whose sender is verified, and its job.

    aside:   set when the raw body is kept, because the job's arguments do not hold all of it.
    refusal: why it cannot become a job. A duplicate is accepted even then.
    """

    delivery: NewDelivery
    job: NewJob | None
    aside: Aside | None
    refusal: CallboardError | None


class _Changed(Exception):
    """The source has changed since it was read, so the check with its old secret is not valid."""


_HANDSHAKE: Final = Accepted(None, [], duplicate=False, result="handshake")

Result = Accepted | Exception


class Deliveries:
    """Accepts the requests that sources send.

    A source is cached for a few seconds. A cached source is read again before its answer is trusted: the
    statement that stores a delivery compares the source's version, and a refusal by a cached source is
    checked against the stored one.
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
        self._kept = KeptConnections(
            partial(database.kept, "webhook"), WRITERS, partial(database.retrying, operation="webhook")
        )
        self._enqueue = enqueue
        self._jobs = DeliveryJobs(enqueue, catalogue)
        self._sources = sources
        self._secret = lru_cache(maxsize=1_000)(box.decrypt)
        self._clock = clock

    def receive_all(self, group: Sequence[Incoming]) -> tuple[list[Result], Callable[[], None]]:
        """Commit the requests. Return one result per request, in order, and a function that announces the
        jobs.

        The result of a failed request is its error, and nothing of the request is stored.
        """
        done: list[Written] = []
        started = self._clock.monotonic()
        results, known = self._attempt(group, done, since=float("-inf"))
        cached = {name for name, source in known.items() if source.read_at < started}
        doubtful = [
            index
            for index, result in enumerate(results)
            if isinstance(result, _Changed) or (_is_unproven(result) and group[index].source in cached)
        ]
        if doubtful:
            again, _ = self._attempt([group[index] for index in doubtful], done, since=started)
            for index, result in zip(doubtful, again, strict=True):
                results[index] = result
        busy = Busy("the webhook source is being changed; try again")
        results = [busy if isinstance(one, _Changed) else one for one in results]
        return results, lambda: self._announce(done)

    def close(self) -> None:
        """Close the kept connections. A later call opens new ones."""
        self._kept.close()

    def _announce(self, done: Sequence[Written]) -> None:
        for written in done:
            self._enqueue.announce(written)

    def _attempt(
        self, group: Sequence[Incoming], done: list[Written], *, since: float
    ) -> tuple[list[Result], dict[str, KnownSource]]:
        """Return one result per request, and the sources that were used, by name."""
        try:
            known = self._sources.named({one.source for one in group}, since=since)
        except Exception as error:  # noqa: BLE001 - it is the result of every request
            return [error] * len(group), {}
        checked = [self._check(one, known.get(one.source)) for one in group]
        verified = [one for one in checked if isinstance(one, _Verified)]
        stored = iter(
            isolate_failures(verified, lambda some, lock_wait: self._store(some, done, lock_wait=lock_wait))
        )
        return [next(stored) if isinstance(one, _Verified) else one for one in checked], known

    def _check(self, one: Incoming, known: KnownSource | None) -> _Verified | Result:
        if known is None:
            return no_source(one.source)
        try:
            return self._verify(known.source, one)
        except Exception as error:  # noqa: BLE001 - it is this request's result
            return error

    def _verify(self, source: WebhookSource, incoming: Incoming) -> _Verified | Accepted:
        headers, body = incoming.headers, incoming.body
        form = body_form(headers)
        scheme = SCHEMES.get(source.scheme)
        if scheme is None:
            # The sender is not at fault, and should try again.
            raise Unavailable(f"the webhook source {source.name!r} has no scheme that is known")
        if form is BodyForm.FORM and not scheme.takes_forms:
            raise UnsupportedMediaType(f"a source of the scheme {scheme.name} takes JSON, not forms")
        verified = scheme.verify(headers, body, self._secrets(source), self._clock.now())
        payload = read_payload(form, body)
        # A handshake passes the same checks as a delivery: when it succeeds, deliveries will.
        if verified.handshake:
            return _HANDSHAKE
        delivery_id, digest = new_id(), hashlib.sha256(body).hexdigest()
        job, aside, refusal = None, None, None
        if not source.events or verified.event in source.events:
            try:
                job, aside = self._jobs.make(
                    source.job, verified, payload, delivery_id, digest, incoming.request_id
                )
            except CallboardError as error:
                refusal = error
            except ValidationError:
                # The source's job was changed by hand. The sender is not at fault, and should try again.
                refusal = Unavailable(f"the job of the webhook source {source.name!r} is not a job's name")
        delivery = NewDelivery(
            id=delivery_id,
            source_id=source.id,
            source_version=source.version,
            external_id=verified.external_id,
            event=verified.event,
            body_sha256=digest,
            job_id=job.id if job else None,
            kept_body=body if aside else None,
        )
        return _Verified(delivery, job, aside, refusal)

    def _secrets(self, source: WebhookSource) -> list[str]:
        """Return the secrets that can be decrypted. Raises Unavailable when there is none."""
        secrets = []
        reason: InvalidInput | None = None
        for stored in source.secrets:
            try:
                secrets.append(self._secret(stored))
            except InvalidInput as error:
                LEDGER.report([RowProblem("webhook_sources", source.name, "secrets", error.message)])
                reason = error
        if not secrets:
            # The sender is not at fault, and should try again.
            raise Unavailable(f"the secrets of the webhook source {source.name!r} cannot be read") from reason
        return secrets

    def _store(
        self, group: Sequence[_Verified], done: list[Written], *, lock_wait: timedelta
    ) -> list[Result]:
        stored = self._kept.run(
            lambda statements: self._write(statements, group, lock_wait), one_statement=False
        )
        if stored.written is not None:
            done.append(stored.written)
        return [_result(one, stored) for one in group]

    def _write(self, statements: Statements, group: Sequence[_Verified], lock_wait: timedelta) -> "_Stored":
        # A delivery may wait for another transaction that stores the same delivery. A unique key may wait
        # too.
        inserting.limit_lock_wait(statements, lock_wait)
        new = repository.accept(statements, [one.delivery for one in group if one.refusal is None])
        jobs = [one.job for one in group if one.job is not None and one.delivery.id in new]
        written = self._enqueue.write(statements, batch_of(jobs)) if jobs else None
        if isinstance(written, WrittenMixed) and written.conflicts:
            # Only this delivery must fail: the transaction is rolled back and repeated without it.
            raise written.conflicts[0]
        bodies = {
            one.delivery.id: one.delivery.kept_body
            for one in group
            if one.delivery.kept_body is not None and one.delivery.id in new
        }
        if bodies:
            repository.keep_bodies(statements, bodies)
        became = _jobs_that_stand(jobs, written)
        others = {
            one.delivery.id: became[one.job.id]
            for one in group
            if one.job is not None and became.get(one.job.id, one.job.id) != one.job.id
        }
        if others:
            repository.attach(statements, others)
        missed = [one.delivery for one in group if one.delivery.id not in new]
        first = repository.earlier(statements, missed) if missed else {}
        mismatches = [
            stored for one in missed if (stored := first.get(_key(one))) and _is_mismatch(one, stored)
        ]
        if mismatches:
            repository.count_mismatches(statements, mismatches)
        return _Stored(new, first, became, written)


class _Stored(NamedTuple):
    """What a transaction stored.

    first:  the earlier deliveries with the same ids.
    became: for each new job's id, the job that was enqueued for it: a new one, or an older one with the same
            unique key.
    """

    new: set[UUID]
    first: dict[tuple[UUID, str], StoredDelivery]
    became: dict[UUID, UUID]
    written: Written | None


def _jobs_that_stand(jobs: Sequence[NewJob], written: Written | None) -> dict[UUID, UUID]:
    if written is None:
        return {}
    return dict(zip((job.id for job in jobs), written.ids, strict=True))


def _is_unproven(result: Result) -> bool:
    """Return whether no statement has compared the result with the stored source yet."""
    return result == _HANDSHAKE or isinstance(result, CallboardError)


def _result(one: _Verified, stored: _Stored) -> Result:
    delivery = one.delivery
    if delivery.id in stored.new:
        if one.job is None:
            return Accepted(delivery.id, [], duplicate=False, result="ignored")
        jobs = [stored.became[one.job.id]]
        return Accepted(delivery.id, jobs, duplicate=False, result="accepted", aside=one.aside)
    first = stored.first.get(_key(delivery))
    if first is not None:
        jobs = [] if first.job_id is None else [first.job_id]
        result = "duplicate_mismatch" if _is_mismatch(delivery, first) else "duplicate"
        return Accepted(first.id, jobs, duplicate=True, result=result)
    return one.refusal or _Changed()


def _key(delivery: NewDelivery) -> tuple[UUID, str]:
    return delivery.source_id, delivery.external_id


def _is_mismatch(delivery: NewDelivery, first: StoredDelivery) -> bool:
    return delivery.body_sha256 != first.body_sha256
