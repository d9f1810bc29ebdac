"""Enqueue: a request is checked, written and committed, and then announced.

When a call returns, its jobs are committed.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from callboard.jobs.definitions.catalogue import Catalogue
from callboard.jobs.enqueue.batcher import LOCK_WAIT, Batcher, isolate_failures
from callboard.jobs.enqueue.key_turns import KeyTurns
from callboard.jobs.enqueue.numbered_checks import check_names, numbered
from callboard.jobs.enqueue.pusher import Pusher
from callboard.jobs.enqueue.repository import inserting
from callboard.jobs.enqueue.repository.inserting import ROWS
from callboard.jobs.enqueue.unique_keys import write_mixed
from callboard.jobs.errors import InvalidArguments
from callboard.jobs.metrics import JOBS_ENQUEUED, UNIQUE_CONFLICTS
from callboard.jobs.model.job import Source
from callboard.jobs.model.new_job import (
    AlikeJobs,
    Batch,
    MixedJobs,
    NewJob,
    batch_of,
    encode_args,
    encode_kwargs,
    like_with,
    merged,
    new_job,
)
from callboard.jobs.model.receipt import Receipt, Written, WrittenAlike, WrittenMixed, queues_of, split
from callboard.jobs.model.request import JobRequest
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Statements
from callboard.jobs.postgres.statements import KeptConnections
from callboard.jobs.redis.transport import Transport

T = TypeVar("T")
R = TypeVar("R")

#: Kept connections for writing: one for a caller's thread, one for the Batcher's thread.
_KEPT: Final = 2
#: Threads that may write jobs with unique keys at once, since each may wait with a pooled connection; and how
#: long another waits for its turn.
_KEY_TURNS: Final = 4
_TURN_WAIT: Final = timedelta(seconds=10)

log = structlog.get_logger(__name__)
_stdlib_log: Final = logging.getLogger(__name__)


class Enqueue:
    """Accepts jobs from every source: `check`, then `accept` (own transaction) or `within` (the caller's).

    threads: how many groups of concurrent callers are written at the same time.
    """

    def __init__(
        self, database: Database, transport: Transport, catalogue: Catalogue, *, threads: int = 1
    ) -> None:
        self._pusher = Pusher(transport)
        self._catalogue = catalogue
        self._batcher: Batcher[Batch, Written] = Batcher("jobs", self._write_plain, threads=threads)
        #: Jobs with unique keys wait for each other. With a Batcher of their own they delay no plain job.
        self._keyed: Batcher[Batch, Written] = Batcher("jobs with unique keys", self._write_keyed)
        self._key_turns = KeyTurns(_KEY_TURNS)
        self._retrying = partial(database.retrying, operation="enqueue")
        self._kept = KeptConnections(partial(database.kept, "enqueue"), _KEPT, self._retrying)

    def check(self, request: JobRequest, source: Source) -> Batch:
        """Check a request against the code, or what workers published; returns a batch of one job.

        Raises UnknownJob, InvalidArguments, NotStorable or InvalidInput.
        """
        return batch_of([self.check_job(request, source)])

    def check_job(self, request: JobRequest, source: Source, *, text_keys: bool = False) -> NewJob:
        """Do what `check` does, and return the job alone, for callers that make their own batch.

        text_keys: keys of arguments become text, as in the JSON of Dramatiq's messages.
        """
        if not request.unchecked:
            self._catalogue.get(request.name)
        # Values that no job can hold are refused first, so every door gives them the same error.
        args = encode_args(request.args, text_keys=text_keys)
        kwargs = encode_kwargs(request.kwargs, text_keys=text_keys)
        choose = self._catalogue.preferred if request.unchecked else self._catalogue.choose
        known = choose(request.name, request.args, request.kwargs)
        kind = known.type if known else None
        return new_job(request, kind, source, args=args, kwargs=kwargs, text_keys=text_keys)

    def check_cached(self, request: JobRequest, source: Source) -> Batch | None:
        """Do what `check` does without a query; None when it needs one."""
        asked = request.name, request.args, request.kwargs
        if (known := self._catalogue.choose_cached(*asked, unchecked=request.unchecked)) is None:
            return None
        args, kwargs = encode_args(request.args), encode_kwargs(request.kwargs)
        return batch_of([new_job(request, known.type, source, args=args, kwargs=kwargs)])

    def check_all(self, requests: Sequence[JobRequest], source: Source) -> Batch:
        """Check several requests; an error names its job: `jobs[3]: kwargs.month: missing`."""
        return batch_of(numbered(requests, lambda request: self.check_job(request, source)))

    def check_arguments(self, request: JobRequest, kwargs: Sequence[dict[str, Any]], source: Source) -> Batch:
        """Do what `check_all` does, for requests that differ only in `kwargs`."""
        numbered(kwargs, check_names)
        versions = (self._catalogue.find if request.unchecked else self._catalogue.get)(request.name)
        # Each job's keys follow from its arguments; or all have the same unique key, and one can get it.
        if request.unique_key or any(one.type.unique or one.type.limit_by for one in versions):
            return self._check_each(request, kwargs, source)
        checker = None if request.unchecked or not versions else versions[0].checker

        def encoded(one: dict[str, Any]) -> bytes:
            written = encode_kwargs(one)
            if checker is not None:
                checker.check(request.args, one)
            return written

        try:
            written = numbered(kwargs, encoded)
        except InvalidArguments:
            # Another version may accept these arguments.
            return self._check_each(request, kwargs, source)
        [like] = self._check_each(request, kwargs[:1], source).jobs
        return like_with(like, written)

    def _check_each(self, request: JobRequest, kwargs: Sequence[dict[str, Any]], source: Source) -> Batch:
        return self.check_all([request.model_copy(update={"kwargs": one}) for one in kwargs], source)

    def accept(self, batch: Batch) -> Written:
        """Write, commit and announce a batch: all of its jobs or none.

        A single plain job shares its transaction with the jobs of other threads. Raises Conflict when a
        unique key is held and the rule is `reject`, Busy when another transaction holds a key for longer than
        two seconds, Unavailable during an outage. After Unavailable nothing was written, with one exception:
        the connection broke between the commit and its answer.
        """
        if isinstance(batch, AlikeJobs) and len(batch.ids) == 1:
            return self._batcher.run(batch)
        if isinstance(batch, MixedJobs) and batch.has_keys:
            return self.accept_with(batch, lambda _, written: written)
        written = self._commit(batch, lambda statements: self._all_or_none(statements, batch, None))
        self.announce(written)
        return written

    def accept_with(self, batch: Batch, then: Callable[[Statements, Written], R]) -> R:
        """Do what `accept` does for a batch with unique keys; return the result of `then`.

        then: runs in the same transaction, after the jobs are written. If it raises, nothing is written.
        """

        def work(statements: Statements) -> tuple[Written, R]:
            written = self._all_or_none(statements, batch, LOCK_WAIT)
            return written, then(statements, written)

        turn = self._key_turns.take(_TURN_WAIT)
        try:
            # It may wait for another transaction. On a kept connection, it would delay the next callers.
            written, result = self._retrying(work)
        finally:
            self._key_turns.end(turn)
        self.announce(written)
        return result

    async def accept_async(self, batch: Batch, *, size: int) -> Written:
        """Do what `accept` does, for a coroutine and a batch of one job.

        size: the size of the request in bytes. It counts towards the memory limit of waiting requests.
        """
        batcher = self._batcher if isinstance(batch, AlikeJobs) else self._keyed
        return await batcher.run_async(batch, size=size)

    def within(self, statements: Statements, batch: Batch) -> Written:
        """Write a batch in the caller's transaction: the jobs exist if, and only if, it commits.

        At the commit, NOTIFY wakes the feeder, which pushes the jobs within milliseconds. Raises the errors
        of `accept`.
        """
        written = self._all_or_none(statements, batch, None)
        notices.queued(statements, queues_of(written))
        _count(written)
        return written

    def write(self, statements: Statements, batch: Batch) -> Written:
        """Write a batch in a transaction of the platform's own, after which the caller calls `announce`.

        `within` raises a Conflict. Here a Conflict is the outcome of its job.
        """
        if isinstance(batch, MixedJobs):
            return write_mixed(statements, batch.jobs)
        return WrittenAlike([(part, inserting.insert_alike(statements, part)) for part in batch.parts(ROWS)])

    def announce(self, written: Written) -> None:
        """Push the queued jobs to Redis, and count the jobs. Call this after the commit.

        An outage of Redis is not an error: the feeder pushes the missing jobs later.
        """
        if offers := written.offers:
            self._pusher.push(offers)
        _count(written)

    def close(self) -> None:
        """Write the waiting jobs, and close the kept connections. A later call opens new ones."""
        self._batcher.close()
        self._keyed.close()
        self._pusher.close()
        self._kept.close()

    def _all_or_none(self, statements: Statements, batch: Batch, lock_wait: timedelta | None) -> Written:
        if lock_wait is not None and isinstance(batch, MixedJobs) and batch.has_keys:
            inserting.limit_lock_wait(statements, lock_wait)
        written = self.write(statements, batch)
        if isinstance(written, WrittenMixed) and written.conflicts:
            _count_conflicts(written)
            raise written.conflicts[0]
        return written

    def _commit(self, batch: Batch, work: Callable[[Statements], T]) -> T:
        """Run `work` in one transaction. A batch that is one statement is a transaction by itself."""
        return self._kept.run(work, one_statement=len(batch.ids) <= ROWS)

    def _write_plain(self, batches: Sequence[Batch]) -> tuple[list[Written | Exception], Callable[[], None]]:
        """Write single jobs without unique keys, from independent callers."""
        done: list[Written] = []

        def write(some: Sequence[Batch], _lock_wait: timedelta) -> Sequence[Written | Exception]:
            batch = merged(some)
            written = self._commit(batch, lambda statements: self.write(statements, batch))
            done.append(written)
            return split(some, written)

        results = isolate_failures(batches, write)
        return results, lambda: self._announce_all(done)

    def _write_keyed(self, batches: Sequence[Batch]) -> tuple[list[Written | Exception], Callable[[], None]]:
        """Do what `_write_plain` does, for jobs with unique keys."""
        done: list[Written] = []

        def write(some: Sequence[Batch], lock_wait: timedelta) -> Sequence[Written | Exception]:
            batch = merged(some)

            def work(statements: Statements) -> Written:
                inserting.limit_lock_wait(statements, lock_wait)
                return self.write(statements, batch)

            written = self._retrying(work)
            done.append(written)
            return split(some, written)

        results = isolate_failures(batches, write)
        return results, lambda: self._announce_all(done)

    def _announce_all(self, written: Sequence[Written]) -> None:
        for one in written:
            self.announce(one)


def _count(written: Written) -> None:
    _tell(written)
    if isinstance(written, WrittenAlike):
        settings = written.parts[0][0].settings
        JOBS_ENQUEUED.labels(settings.queue, settings.name, settings.door).inc(written.count)
        return
    _count_conflicts(written)
    new: Counter[tuple[str, str, str]] = Counter()
    for job, outcome in zip(written.jobs, written.outcomes, strict=True):
        if isinstance(outcome, Receipt) and not outcome.existed:
            new[job.settings.queue, job.settings.name, job.settings.door] += 1
    for labels, number in new.items():
        JOBS_ENQUEUED.labels(*labels).inc(number)


def _tell(written: Written) -> None:
    if _stdlib_log.isEnabledFor(logging.DEBUG):  # cheaper than a call that is turned down
        ids = written.ids
        log.debug("job.enqueued", count=len(ids), first=str(ids[0]) if ids else None)


def _count_conflicts(written: WrittenMixed) -> None:
    for job, outcome in zip(written.jobs, written.outcomes, strict=True):
        if not isinstance(outcome, Receipt):
            result = "rejected"
        elif outcome.replaced:
            result = "replaced"
            key = job.unique.key if job.unique else None
            log.info("job.replaced", job_id=str(outcome.id), job=job.settings.name, unique_key=key)
        elif outcome.existed or outcome.moved:
            result = "moved" if outcome.moved else "existing"
        else:
            continue
        UNIQUE_CONFLICTS.labels(job.settings.name, result).inc()
