"""Enqueue: check, write, commit, and only then tell Redis. A receipt means that the job is committed."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from jobs.database import Database
from jobs.derived_keys import derived_key
from jobs.errors import CallboardError, Conflict, Unavailable
from jobs.ids import new_id
from jobs.json_values import encode
from jobs.metrics import JOBS_ENQUEUED, STORE_ERRORS
from jobs.records import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY, DEFAULT_QUEUE, Hint, NewJob, Receipt, Source
from jobs.repositories import job_enqueue, notices
from jobs.repositories.job_types import JobType
from jobs.requests import JobRequest
from jobs.services.catalogue import Catalogue
from jobs.transport import Transport

#: Bytes of JSON that a job's arguments may have.
ARGUMENTS_LIMIT: Final = 2 * 1024 * 1024
#: The same of what a Dramatiq message carries.
OPTIONS_LIMIT: Final = 256 * 1024
#: Rows in one INSERT; more go into several within the same transaction.
_ROWS: Final = 2_000

log = structlog.get_logger(__name__)


class Enqueue:
    """Accepts jobs from every door."""

    def __init__(self, database: Database, transport: Transport, catalogue: Catalogue) -> None:
        self._database = database
        self._transport = transport
        self._catalogue = catalogue

    def one(self, request: JobRequest, source: Source) -> Receipt:
        """Accept one job; when this returns, it is committed."""
        return self.checked([(request, self.check(request, source))])[0]

    def many(self, requests: Sequence[JobRequest], source: Source) -> list[Receipt]:
        """Accept all of these jobs or none; receipts are in the order of the requests.

        An error names the job: `jobs[3]: kwargs.month: missing`.
        """
        return self.checked(self._check_all(requests, source))

    def checked(self, pairs: Sequence[tuple[JobRequest, NewJob]]) -> list[Receipt]:
        """Write jobs that `check` has passed, in one transaction, and push them once it is committed."""
        receipts, hints = self._database.retrying(lambda connection: self._write(connection, pairs))
        self.push(hints)
        self._count(pairs, receipts)
        return receipts

    def within(self, connection: Connection, requests: Sequence[JobRequest], source: Source) -> list[Receipt]:
        """Accept jobs inside the caller's transaction: they are there when, and only when, it commits.

        The scheduler hears of the commit by NOTIFY and feeds them within milliseconds.
        """
        if len(requests) == 1:
            pairs = [(requests[0], self.check(requests[0], source))]
        else:
            pairs = self._check_all(requests, source)
        receipts, hints = self._write(connection, pairs)
        notices.queued(connection, sorted({hint.queue for hint in hints}))
        self._count(pairs, receipts)
        return receipts

    def check(self, request: JobRequest, source: Source) -> NewJob:
        """Hold a request against what the workers published; raises UnknownJob or InvalidArguments."""
        known = self._catalogue.find(request.name) if request.unchecked else self._catalogue.get(request.name)
        if known is not None and not request.unchecked:
            known.checker.check(request.args, request.kwargs)
        kind = known.type if known else None
        args = encode(request.args, limit=ARGUMENTS_LIMIT, what="args")
        kwargs = encode(request.kwargs, limit=ARGUMENTS_LIMIT, what="kwargs")
        return NewJob(
            id=new_id(),
            name=request.name,
            queue=request.queue or (kind.queue if kind else DEFAULT_QUEUE),
            args=args,
            kwargs=kwargs,
            priority=_first(request.priority, kind.priority if kind else None, DEFAULT_PRIORITY),
            max_attempts=_first(
                request.max_attempts, kind.max_attempts if kind else None, DEFAULT_MAX_ATTEMPTS
            ),
            run_at=request.run_at,
            delay=request.delay,
            expires_at=request.expires_at,
            unique_key=request.unique_key,
            tags=tuple(dict.fromkeys(request.tags)),
            timeout=_span(request.timeout, kind.timeout if kind else None),
            source=source,
            hard_timeout=_span(request.hard_timeout, kind.hard_timeout if kind else None),
            options=_options(request),
            limit_key=request.limit_key or _limit_key(request, kind),
            unique_for=request.unique_for,
        )

    def push(self, hints: Sequence[Hint]) -> None:
        """Tell Redis; when it is away the feeder will, once it is back."""
        if not hints:
            return
        try:
            self._transport.push(hints)
        except Unavailable as error:
            STORE_ERRORS.labels("redis", "push").inc()
            log.debug("redis.push_skipped", reason=error.message, count=len(hints))

    def _check_all(self, requests: Sequence[JobRequest], source: Source) -> list[tuple[JobRequest, NewJob]]:
        pairs = []
        for index, request in enumerate(requests):
            try:
                pairs.append((request, self.check(request, source)))
            except CallboardError as error:
                fields = {f"jobs[{index}].{path}": problem for path, problem in error.fields.items()}
                raise type(error)(f"jobs[{index}]: {error.message}", fields=fields) from None
        return pairs

    def _write(
        self, connection: Connection, pairs: Sequence[tuple[JobRequest, NewJob]]
    ) -> tuple[list[Receipt], list[Hint]]:
        hints: list[Hint] = []
        written: dict[object, Receipt] = {}
        # Unique keys in one order for everybody: two that take the same keys wait for each other, and never in a ring.
        for batch in _batches(sorted((job for _, job in pairs), key=lambda job: job.unique_key or "")):
            receipts, batch_hints = job_enqueue.enqueue(connection, batch)
            written.update({receipt.id: receipt for receipt in receipts})
            hints += batch_hints
        taken = [(request, job) for request, job in pairs if job.id not in written]
        # The holder of a key may finish between the two statements; then the key is free, and the job goes in.
        for _ in range(5):
            if not taken:
                break
            taken = self._resolve(connection, taken, written, hints)
        if taken:
            raise Conflict(f"the unique key {taken[0][1].unique_key!r} keeps changing hands; try again")
        return [written[job.id] for _, job in pairs], hints

    def _resolve(
        self,
        connection: Connection,
        taken: Sequence[tuple[JobRequest, NewJob]],
        written: dict[object, Receipt],
        hints: list[Hint],
    ) -> list[tuple[JobRequest, NewJob]]:
        holders = job_enqueue.holders(
            connection, [job.unique_key for _, job in taken if job.unique_key is not None]
        )
        left = []
        for request, job in taken:
            holder = holders.get(job.unique_key or "")
            if holder is not None:
                if request.on_conflict == "reject":
                    raise Conflict(
                        f"the unique key {job.unique_key!r} is held by job {holder.id} ({holder.state})"
                    )
                written[job.id] = holder
            else:
                receipts, more = job_enqueue.enqueue(connection, [job])
                written.update({receipt.id: receipt for receipt in receipts})
                hints += more
                if not receipts:
                    left.append((request, job))
        return left

    @staticmethod
    def _count(pairs: Sequence[tuple[JobRequest, NewJob]], receipts: Sequence[Receipt]) -> None:
        for (_, job), receipt in zip(pairs, receipts, strict=True):
            if not receipt.existed:
                JOBS_ENQUEUED.labels(job.queue, job.name, job.source.door).inc()
        log.debug("job.enqueued", count=len(receipts), first=str(receipts[0].id) if receipts else None)


def _span(asked: timedelta | None, default: float | None) -> timedelta | None:
    if asked is not None:
        return asked
    return timedelta(seconds=default) if default else None


def _limit_key(request: JobRequest, kind: JobType | None) -> str | None:
    if kind is None or not kind.limit_by:
        return None
    return derived_key(kind.schema, request.args, request.kwargs, kind.limit_by)


def _options(request: JobRequest) -> bytes | None:
    """What few jobs ask for, as one value; seconds for durations."""
    spans = {"min_backoff": request.min_backoff, "max_backoff": request.max_backoff}
    options: dict[str, Any] = {name: span.total_seconds() for name, span in spans.items() if span is not None}
    if request.message_options:
        options["message"] = request.message_options
    return encode(options, limit=OPTIONS_LIMIT, what="options") if options else None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _batches(new: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    for start in range(0, len(new), _ROWS):
        yield new[start : start + _ROWS]
