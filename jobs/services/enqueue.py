"""Enqueue: check, write, commit, and only then tell Redis. A receipt means that the job is committed."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeVar, cast

import orjson
import structlog
from sqlalchemy import Connection

from jobs.database import Database
from jobs.derived_keys import derived_key, unique_key
from jobs.errors import CallboardError, Conflict, InvalidInput, Unavailable
from jobs.ids import new_id
from jobs.json_values import encode
from jobs.metrics import JOBS_ENQUEUED, STORE_ERRORS, UNIQUE_CONFLICTS
from jobs.records import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    Hint,
    Job,
    NewJob,
    Receipt,
    Source,
    as_written,
)
from jobs.repositories import job_enqueue, notices
from jobs.repositories.job_types import JobType
from jobs.requests import JobRequest
from jobs.services.catalogue import Catalogue
from jobs.services.combining import Combining
from jobs.services.together import together
from jobs.services.uniqueness import NOBODY_THERE, ROWS, Outcome, Writing
from jobs.transport import Transport

#: Bytes of JSON that a job's arguments may have.
ARGUMENTS_LIMIT: Final = 2 * 1024 * 1024
#: The same of what a Dramatiq message carries.
OPTIONS_LIMIT: Final = 256 * 1024
T = TypeVar("T")
Derived = Callable[[Sequence[str]], str]

#: How long an enqueue waits for somebody else's open transaction that holds its unique key.
_PATIENCE: Final = timedelta(seconds=2)

log = structlog.get_logger(__name__)


class Accepted(NamedTuple):
    """A job that was accepted; `shown` when all of it is known without reading it again."""

    receipt: Receipt
    shown: Job | None


class Enqueue:
    """Accepts jobs from every door."""

    def __init__(self, database: Database, transport: Transport, catalogue: Catalogue) -> None:
        self._database = database
        self._transport = transport
        self._catalogue = catalogue
        self._combining = Combining(self._write_plain)

    def one(self, request: JobRequest, source: Source) -> Receipt:
        """Accept one job; when this returns, it is committed."""
        return self.accept(request, source).receipt

    def accept(self, request: JobRequest, source: Source) -> Accepted:
        """As `one`, and what is known of the job by then."""
        job = self.check(request, source)
        if job.unique_key is None:
            return self._combining.run(job)
        return Accepted(self.checked([job])[0], None)

    def many(self, requests: Sequence[JobRequest], source: Source) -> list[Receipt]:
        """Accept all of these jobs or none; receipts are in the order of the requests.

        An error names the job: `jobs[3]: kwargs.month: missing`.
        """
        return self.checked(self.check_all(requests, source))

    def checked(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        """Write jobs that `check` has passed, in one transaction, and push them once it is committed; all or none."""

        def write(connection: Connection) -> tuple[list[Receipt], list[Hint]]:
            _be_patient(connection, jobs, _PATIENCE)
            return _all(connection, jobs)

        receipts, hints = self._commit(jobs, write)
        self.push(hints)
        _count(jobs, receipts)
        return receipts

    def each(
        self, jobs: Sequence[NewJob], *, patience: timedelta = _PATIENCE
    ) -> tuple[list[Outcome], list[Hint]]:
        """As `checked`, but a job that is rejected for its unique key is a Conflict in its place, and harms no other.

        patience: how long to wait for somebody's open transaction that holds one of the keys; then Busy.
        Returns the hints, too, of what is queued and was pushed.
        """
        outcomes, hints = self._commit(
            jobs, lambda connection: self.each_within(connection, jobs, patience=patience)
        )
        self.committed(jobs, outcomes, hints)
        return outcomes, hints

    def each_within(
        self, connection: Connection, jobs: Sequence[NewJob], *, patience: timedelta
    ) -> tuple[list[Outcome], list[Hint]]:
        """As `each`, inside a transaction after whose commit the caller calls `committed`."""
        _be_patient(connection, jobs, patience)
        return _each(connection, jobs)

    def committed(self, jobs: Sequence[NewJob], outcomes: Sequence[Outcome], hints: Sequence[Hint]) -> None:
        """Push and count what `each_within` wrote."""
        self.push(hints)
        _count(jobs, outcomes)

    def within(self, connection: Connection, requests: Sequence[JobRequest], source: Source) -> list[Receipt]:
        """Accept jobs inside the caller's transaction: they are there when, and only when, it commits.

        The scheduler hears of the commit by NOTIFY and feeds them within milliseconds.
        """
        if len(requests) == 1:
            return self.checked_within(connection, [self.check(requests[0], source)])
        return self.checked_within(connection, self.check_all(requests, source))

    def checked_within(self, connection: Connection, jobs: Sequence[NewJob]) -> list[Receipt]:
        """As `within`, for jobs that `check` has passed."""
        receipts, hints = _all(connection, jobs)
        notices.queued(connection, sorted({hint.queue for hint in hints}))
        _count(jobs, receipts)
        return receipts

    def check_all(self, requests: Sequence[JobRequest], source: Source) -> list[NewJob]:
        """Check each; an error names the one it is about."""
        checked = []
        for index, request in enumerate(requests):
            try:
                checked.append(self.check(request, source))
            except CallboardError as error:
                fields = {f"jobs[{index}].{path}": problem for path, problem in error.fields.items()}
                raise type(error)(f"jobs[{index}]: {error.message}", fields=fields) from None
        return checked

    def check(self, request: JobRequest, source: Source) -> NewJob:
        """Hold a request against what the workers published; raises UnknownJob or InvalidArguments."""
        known = self._catalogue.find(request.name) if request.unchecked else self._catalogue.get(request.name)
        if known is not None and not request.unchecked:
            known.checker.check(request.args, request.kwargs)
        kind = known.type if known else None
        args = encode(request.args, limit=ARGUMENTS_LIMIT, what="args")
        kwargs = encode(request.kwargs, limit=ARGUMENTS_LIMIT, what="kwargs")
        derive = _deriving(kind, args, kwargs)
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
            tags=tuple(dict.fromkeys(request.tags)),
            timeout=_span(request.timeout, kind.timeout if kind else None),
            source=source,
            hard_timeout=_span(request.hard_timeout, kind.hard_timeout if kind else None),
            options=_options(request),
            limit_key=request.limit_key or (derive(kind.limit_by) if kind and kind.limit_by else None),
            **_unique(request, kind, source, derive),
        )

    def _commit(self, jobs: Sequence[NewJob], work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction. Few jobs that are alike are one statement, which is one by itself."""
        if len(jobs) <= ROWS and job_enqueue.are_alike(jobs):
            with self._database.direct() as connection:
                return work(cast("Connection", connection))
        return self._database.retrying(work)

    def _write_plain(self, jobs: Sequence[NewJob]) -> Sequence[Accepted | Exception]:
        """Write jobs without unique keys that have nothing to do with each other."""
        return together(jobs, self._write_some, has_key=lambda _: False)

    def _write_some(self, jobs: Sequence[NewJob], patience: timedelta) -> list[Accepted | Exception]:
        outcomes, hints = self.each(jobs, patience=patience)
        due = {hint.id: hint.run_at for hint in hints}
        return [
            Accepted(outcome, as_written(job, outcome, due.get(job.id)))
            if isinstance(outcome, Receipt)
            else outcome
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]

    def push(self, hints: Sequence[Hint]) -> None:
        """Tell Redis; when it is away the feeder will, once it is back."""
        if not hints:
            return
        try:
            self._transport.push(hints)
        except Unavailable as error:
            STORE_ERRORS.labels("redis", "push").inc()
            log.debug("redis.push_skipped", reason=error.message, count=len(hints))


def _all(connection: Connection, jobs: Sequence[NewJob]) -> tuple[list[Receipt], list[Hint]]:
    receipts = []
    outcomes, hints = _each(connection, jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, Conflict):
            _conflict(job, "rejected")
            raise outcome
        receipts.append(outcome)
    return receipts, hints


def _each(connection: Connection, jobs: Sequence[NewJob]) -> tuple[list[Outcome], list[Hint]]:
    writing = Writing(connection)
    writing.write(jobs)
    notices.limited(connection, writing.hints)
    return [writing.outcomes[job.id] for job in jobs], writing.hints


def _count(jobs: Sequence[NewJob], outcomes: Sequence[Outcome]) -> None:
    new: Counter[tuple[str, str, str]] = Counter()
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, Conflict):
            _conflict(job, "rejected")
            continue
        if not outcome.existed:
            new[job.queue, job.name, job.source.door] += 1
        if outcome.replaced:
            _conflict(job, "replaced")
            log.info("job.replaced", job_id=str(outcome.id), job=job.name, unique_key=job.unique_key)
        elif outcome.existed or outcome.moved:
            _conflict(job, "moved" if outcome.moved else "existing")
    for labels, number in new.items():
        JOBS_ENQUEUED.labels(*labels).inc(number)
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    log.debug("job.enqueued", count=len(accepted), first=str(accepted[0].id) if accepted else None)


def _conflict(job: NewJob, result: str) -> None:
    UNIQUE_CONFLICTS.labels(job.name, result).inc()


def _be_patient(connection: Connection, jobs: Sequence[NewJob], patience: timedelta) -> None:
    """Only a unique key can be held by somebody: no other enqueue pays for this."""
    if any(job.unique_key is not None for job in jobs):
        job_enqueue.be_patient(connection, patience)


def _span(asked: timedelta | None, default: float | None) -> timedelta | None:
    if asked is not None:
        return asked
    return timedelta(seconds=default) if default else None


def _unique(request: JobRequest, kind: JobType | None, source: Source, arguments: Derived) -> dict[str, Any]:
    """The unique key, its period and its rule of conflict: what the request says, else what the job's definition does."""
    rule = kind.unique if kind else None
    key, period, on_conflict = request.unique_key, request.unique_for, request.on_conflict
    if rule is not None:
        key = key or unique_key(request.name, arguments(rule.by))
        period = _span(period, rule.period)
        if on_conflict is None and not (rule.on_conflict == "reject" and source.door in NOBODY_THERE):
            on_conflict = rule.on_conflict  # type: ignore[assignment]
    if key is None and (period or on_conflict in {"replace", "reject"}):
        option = "unique_for" if period else f"on_conflict={on_conflict}"
        raise InvalidInput(
            f"{option} needs a unique_key", fields={option.partition("=")[0]: "a unique_key is needed"}
        )
    return {"unique_key": key, "unique_for": period or None, "on_conflict": on_conflict or "existing"}


def _deriving(kind: JobType | None, args: bytes, kwargs: bytes) -> Derived:
    """Keys are made of the arguments as they are written: a date is its text, at every door."""
    return lambda by: derived_key(kind.schema if kind else {}, orjson.loads(args), orjson.loads(kwargs), by)


def _options(request: JobRequest) -> bytes | None:
    """What few jobs ask for, as one value; seconds for durations."""
    spans = {"min_backoff": request.min_backoff, "max_backoff": request.max_backoff}
    options: dict[str, Any] = {name: span.total_seconds() for name, span in spans.items() if span is not None}
    if request.message_options:
        options["message"] = request.message_options
    return encode(options, limit=OPTIONS_LIMIT, what="options") if options else None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
