"""Enqueue: check, write, commit, and only then tell Redis. A receipt means that the job is committed."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeVar, cast
from uuid import UUID

import structlog
from sqlalchemy import Connection

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue import batch
from callboard.jobs.enqueue.batch import Alike, NewJob, Receipt, Written, as_written
from callboard.jobs.enqueue.check import Checking
from callboard.jobs.enqueue.combining import Combining
from callboard.jobs.enqueue.isolate import together
from callboard.jobs.enqueue.repository import inserting
from callboard.jobs.enqueue.unique_keys import ROWS, Outcome, Writing
from callboard.jobs.errors import Conflict, Unavailable
from callboard.jobs.metrics import JOBS_ENQUEUED, STORE_ERRORS, UNIQUE_CONFLICTS
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.ids import text_of
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.model.states import JobState
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.redis.transport import Offer, Transport, token

T = TypeVar("T")

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
        self._checking = Checking(catalogue)
        self._combining = Combining(self._write_plain)
        #: For those who write; whoever finds none goes the way through the pool. Most of the time there is but one.
        self._lanes = deque([database.lane(), database.lane()])

    def check(self, request: JobRequest, source: Source) -> NewJob:
        """Hold a request against what the workers published; raises UnknownJob or InvalidArguments."""
        return self._checking.check(request, source)

    def check_all(self, requests: Sequence[JobRequest], source: Source) -> list[NewJob]:
        """Check each; an error names the one it is about."""
        return self._checking.check_all(requests, source)

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

    def many_of(
        self, request: JobRequest, kwargs: Sequence[dict[str, Any]], source: Source
    ) -> Sequence[UUID]:
        """As `many`, of requests that are the same but for their named arguments: these, each in turn. Returns the ids."""
        if not kwargs:
            return []
        alike = self._checking.check_alike(request, kwargs, source)
        if alike is None:
            requests = [request.model_copy(update={"kwargs": one}) for one in kwargs]
            return [receipt.id for receipt in self.many(requests, source)]
        parts = alike.parts(ROWS)
        written = self._commit(lambda connection: _write_alike(connection, parts), single=len(parts) == 1)
        _tell_redis(self._transport.offer, _offers(parts, written))
        JOBS_ENQUEUED.labels(alike.like.queue, alike.like.name, source.door).inc(len(alike.ids))
        log.debug("job.enqueued", count=len(alike.ids), first=str(alike.ids[0]))
        return alike.ids

    def checked(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        """Write jobs that `check` has passed, in one transaction, and push them once it is committed; all or none."""

        def write(connection: Connection) -> tuple[list[Receipt], list[Hint]]:
            _be_patient(connection, jobs, _PATIENCE)
            return _all(connection, jobs)

        receipts, hints = self._commit(write, single=self._is_single(jobs))
        self.push(hints)
        _count(jobs, receipts)
        return receipts

    def each(self, jobs: Sequence[NewJob], *, patience: timedelta) -> tuple[list[Outcome], list[Hint]]:
        """As `checked`, but a job that is rejected for its unique key is a Conflict in its place, and harms no other.

        patience: how long to wait for somebody's open transaction that holds one of the keys; then Busy.
        Returns the hints, too, of what is queued and was pushed.
        """
        outcomes, hints = self._commit_each(jobs, patience)
        self.committed(jobs, outcomes, hints)
        return outcomes, hints

    def _commit_each(self, jobs: Sequence[NewJob], patience: timedelta) -> tuple[list[Outcome], list[Hint]]:
        return self._commit(
            lambda connection: self.each_within(connection, jobs, patience=patience),
            single=self._is_single(jobs),
        )

    def each_within(
        self, connection: Connection, jobs: Sequence[NewJob], *, patience: timedelta
    ) -> tuple[list[Outcome], list[Hint]]:
        """As `each`, inside a transaction after whose commit the caller calls `committed`."""
        _be_patient(connection, jobs, patience)
        return _each(connection, jobs)

    def is_direct(self, jobs: Sequence[NewJob]) -> bool:
        """Whether `each_within` can write them by a direct connection."""
        return not jobs or batch.alike(jobs) is not None

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

    def _is_single(self, jobs: Sequence[NewJob]) -> bool:
        return len(jobs) <= ROWS and self.is_direct(jobs)

    def _commit(self, work: Callable[[Connection], T], *, single: bool) -> T:
        """Run `work` in one transaction. A single statement, of jobs that are alike, is one by itself."""
        if not single:
            return self._database.retrying(work)
        try:
            lane = self._lanes.pop()
        except IndexError:
            with self._database.direct() as connection:
                return work(cast("Connection", connection))
        try:
            return lane.run(lambda connection: work(cast("Connection", connection)))
        finally:
            self._lanes.append(lane)

    def _write_plain(
        self, jobs: Sequence[NewJob]
    ) -> tuple[Sequence[Accepted | BaseException], Callable[[], None]]:
        """Write jobs without unique keys that have nothing to do with each other; to push them is left to do."""
        written: list[tuple[Sequence[NewJob], list[Outcome], list[Hint]]] = []

        def write(some: Sequence[NewJob], patience: timedelta) -> list[Accepted | Exception]:
            outcomes, hints = self._commit_each(some, patience)
            written.append((some, outcomes, hints))
            return _accepted(some, outcomes, hints)

        def push() -> None:
            for one in written:
                self.committed(*one)

        return together(jobs, write, has_key=lambda _: False), push

    def close(self) -> None:
        """Let the kept connections go; a later call opens others."""
        self._combining.close()
        for lane in self._lanes:
            lane.close()

    def push(self, hints: Sequence[Hint]) -> None:
        """Tell Redis; when it is away the feeder will, once it is back."""
        if hints:
            _tell_redis(self._transport.push, hints)


def _tell_redis(push: Callable[[Sequence[T]], int], what: Sequence[T]) -> None:
    try:
        push(what)
    except Unavailable as error:
        STORE_ERRORS.labels("redis", "push").inc()
        log.debug("redis.push_skipped", reason=error.message, count=len(what))


def _offers(parts: Sequence[Alike], written: Sequence[Written]) -> list[Offer]:
    return [
        Offer(part.like.queue, part.like.priority, one.run_at, [token(text_of(job), 0) for job in part.ids])
        for part, one in zip(parts, written, strict=True)
        if one.state is JobState.QUEUED and not one.limited
    ]


def _write_alike(connection: Connection, parts: Sequence[Alike]) -> list[Written]:
    written = [inserting.enqueue_alike(connection, part) for part in parts]
    if written[0].limited and written[0].state is JobState.QUEUED:
        notices.queued(connection, [parts[0].like.queue])
    return written


def _accepted(
    jobs: Sequence[NewJob], outcomes: Sequence[Outcome], hints: Sequence[Hint]
) -> list[Accepted | Exception]:
    due = {hint.id: hint.run_at for hint in hints}
    return [
        Accepted(outcome, as_written(job, outcome, due.get(job.id)))
        if isinstance(outcome, Receipt)
        else outcome
        for job, outcome in zip(jobs, outcomes, strict=True)
    ]


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
    outcomes = writing.write(jobs)
    notices.limited(connection, writing.hints)
    return outcomes, writing.hints


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
        inserting.be_patient(connection, patience)
