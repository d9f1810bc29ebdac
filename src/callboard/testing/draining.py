"""`Drain`: runs due jobs against real servers, in this process, with a clock that can be moved."""

import os
import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

from callboard.jobs.attempts.claims import Claims
from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.client import Client
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.durations import parse_duration
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.model.states import JobState, Verb
from callboard.jobs.platform import Platform
from callboard.testing import drains, repository
from callboard.testing.attempts_here import AttemptHere, AttemptsHere
from callboard.testing.doors import FIND_STORED, redirected
from callboard.testing.imported_jobs import imported_actor, not_imported, usable_types
from callboard.testing.outcome_counts import Drained
from callboard.testing.recording import suspended
from callboard.testing.run_result import RunOutcome
from callboard.testing.servers_of_run import migrated_platform, run_servers
from callboard.workers.child_parts import Stores
from callboard.workers.report.end_log import log_end

if TYPE_CHECKING:
    from callboard.jobs.feed.upkeep import Upkeep

#: One drain runs at most so many attempts by default, and schedules tick so often. More is an endless loop.
_MOST: Final = 10_000
#: The jobs that one statement stages or expires.
_BATCH: Final = 1_000
#: Postgres tells times to the microsecond. The clock is moved a little beyond, so that what is due is due.
_BEYOND: Final = timedelta(milliseconds=1)
#: While jobs wait for a rate limit, or what is due cannot be done, the clock moves in steps: of this length,
#: and so many at most.
_LIMIT_STEP: Final = timedelta(minutes=1)
_LIMIT_STEPS: Final = 200


class Drain:
    """Runs due jobs with the code of the workers: claim, attempt, verdict, finish. A context manager.

    In the block, every client and broker of this process uses an own schema of the servers. Jobs that the
    code under test enqueues are committed there. A call runs them.

    platform: an own migrated schema; by default one is made, on the servers of the settings or on embedded
              ones. Each block begins with empty tables.
    """

    def __init__(self, platform: Platform | None = None) -> None:
        self._given = platform
        self._opened = ExitStack()
        self._moved = timedelta(0)

    def __call__(
        self, *, until: str | timedelta | None = None, raising: bool = False, most: int = _MOST
    ) -> Drained:
        """Run what is due, and what follows from it, until nothing is due; return the counts by outcome.

        until:   move the clock by this span, and on the way run each job and tick when it is due.
        raising: raise the first exception that a job does not survive or is retried for, as it was raised.
        most:    raise InvalidInput after this many attempts.

        A job that is delayed, retried or snoozed is not due: see `until` and `advance`. A job in a paused
        queue, or beyond a limit, does not run. Raises UnknownJob for a job whose code is not imported.
        """
        if not isinstance(most, int) or most < 1:
            problem = "a whole number, 1 or more"
            raise InvalidInput(f"most must be {problem}", fields={"most": problem})
        if self._here.in_async_job:
            raise InvalidInput("drain() in an async job would wait for that job itself; call it in the test")
        span = timedelta(0) if until is None else _span(until)
        end = self._moved + span
        counts: Counter[RunOutcome] = Counter()
        errors: list[str] = []
        self._publish()
        was_overdue = False
        while True:
            self._run_due(counts, errors, raising=raising, most=most)
            left = end - self._moved
            found = self.platform.feed.look()
            following = found.next_in
            overdue = following is not None and following <= timedelta(0)
            if found.limited or (overdue and was_overdue):
                # Nothing tells when a rate lets the next job start, so the clock goes there in steps. What is
                # due and cannot be done, such as a tick of a schedule with a fault, must not hold the clock.
                step = max(_LIMIT_STEP, span / _LIMIT_STEPS)
                following = step if following is None or overdue else min(step, following)
            was_overdue = overdue
            if left <= timedelta(0) or following is None or following >= left:
                break
            self._move(max(following, timedelta(0)) + _BEYOND)
        if self._moved < end:
            self._move(end - self._moved)
            self._run_due(counts, errors, raising=raising, most=most)
        return Drained(**{str(outcome): count for outcome, count in counts.items()}, errors=tuple(errors))

    def advance(self, span: str | timedelta) -> None:
        """Move the database's clock forward, as this process's sessions see it. Runs nothing."""
        self._move(_span(span))

    @property
    def client(self) -> Client:
        """A client of the test's schema: to enqueue, read, cancel and retry jobs."""
        return self._client

    @property
    def platform(self) -> Platform:
        """The services over the test's schema."""
        return self._platform

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(suspended())
            if self._given is None:
                urls = opened.enter_context(run_servers())
                self._platform = opened.enter_context(migrated_platform(urls, "block"))
            else:
                self._platform = self._given
            self._begin()
            opened.callback(self._end)
            opened.enter_context(redirected(self._platform, FIND_STORED))
            self._here = opened.enter_context(AttemptsHere(lambda: self._platform))
            drains.opened(self._platform)
            opened.callback(drains.closed, self._platform)
            self._client = Client.from_env()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _begin(self) -> None:
        platform = self._platform
        with platform.database.transaction() as connection:
            repository.empty(connection)
        platform.catalogue.forget()
        card = WorkerCard(
            new_id(), socket.gethostname(), os.getpid(), queues=(), job_names=(), threads=1, slots=1
        )
        platform.workers.register(card)
        self._stores = Stores.of(platform, card.id)
        self._publish()

    def _end(self) -> None:
        for store in (self._stores.claims, self._stores.ends, self._stores.job_logs):
            store.close()
        with self._platform.database.autocommit() as connection:
            queues = repository.queue_names(connection)
        for queue in queues:
            self._platform.transport.forget(queue)
        if self._moved:
            self._move(-self._moved)

    def _publish(self) -> None:
        """Publish the imported jobs, as a worker does at its start: SQL and schedules look them up."""
        types = usable_types()
        if types:
            self._platform.catalogue.publish(types)

    def _move(self, by: timedelta) -> None:
        self._moved += by
        with self._platform.database.transaction() as connection:
            repository.move_clock(connection, self._moved)

    def _run_due(self, counts: Counter[RunOutcome], errors: list[str], *, raising: bool, most: int) -> None:
        ticks = 0
        while True:
            found = self._platform.feed.look()
            if found.expires:
                self._platform.feed.expire(_BATCH)
            if found.fires:
                ticks += len(self._platform.ticker().tick())
            if found.due:
                self._platform.feed.stage(_BATCH)
            if found.expires or found.fires or found.due:
                found = self._platform.feed.look()
            claimed = self._claim(found)
            if claimed is None:
                return
            if counts.total() >= most or ticks > _MOST:
                self._stores.ends.hand_back([claimed])
                raise InvalidInput(
                    f"{counts.total():,} attempts have run and more jobs are due, such as {claimed.name!r};"
                    " does a job enqueue itself without an end? drain(most=...) sets the limit"
                )
            attempt = self._run(claimed)
            outcome = self._finish(attempt)
            counts[outcome] += 1
            if attempt.error is not None:
                errors.append(_shown(claimed, attempt, outcome))
                if raising and outcome in {RunOutcome.FAILED, RunOutcome.RETRYING}:
                    raise attempt.error

    def _claim(self, found: "Upkeep") -> ClaimedJob | None:
        """Claim one job. Others stay queued, so that a job may cancel them."""
        claims = self._stores.claims
        for queue in found.plain:
            claimed = claims.claim_oldest(queue, 1)
            if claimed:
                return self._with_arguments(claims, claimed)
        for queue in found.limited:
            for token in self._platform.grants.make(queue).tokens.ids():
                claimed = claims.claim([token])
                if claimed:
                    return self._with_arguments(claims, claimed)
        return None

    def _with_arguments(self, claims: Claims, claimed: list[ClaimedJob]) -> ClaimedJob:
        [job] = claims.with_arguments(claimed)
        return job

    def _run(self, job: ClaimedJob) -> AttemptHere:
        actor = imported_actor(job.name)
        if actor is None:
            self._stores.ends.hand_back([job])
            raise not_imported(job.name)
        running = RunningJob(job, self._enqueue, self._report, self._platform_body)
        return self._here.run(job, actor, running)

    def _finish(self, attempt: AttemptHere) -> RunOutcome:
        """Write the end, after the lines of the log, as a worker does."""
        running = attempt.running
        portion = None if running.lines is None else running.lines.take()
        if portion is not None:
            self._stores.job_logs.write([portion], [])
        try:
            end = attempt.end
        except BaseException:
            self._stores.ends.hand_back([attempt.job])
            raise
        state = self._stores.ends.finish([end])[attempt.job.id].state
        if end.verb is not Verb.COMPLETE:
            log_end(attempt, end, state)
        return RunOutcome.of(end.verb, cancel_requested=state is JobState.CANCELLED)

    def _enqueue(self, request: JobRequest, source: Source) -> UUID:
        enqueue = self._platform.enqueue
        return enqueue.accept(enqueue.check(request, source)).ids[0]

    def _report(self, running: RunningJob) -> None:
        """Write a report at once, and read requests to stop. A worker does it once a second."""
        reports: Sequence[Progress] = []
        if running.reported is not None:
            reports = [Progress(running.id, running.epoch, running.claim_id, *running.reported)]
        for request in self._stores.reports.report(reports):
            if request.id == running.id and request.epoch == running.epoch:
                running.cancel_requested = True
        running.unwritten = False

    def _platform_body(self, delivery: UUID) -> bytes:
        return self._platform.deliveries.body(delivery)


def _span(value: str | timedelta | Any) -> timedelta:
    span = parse_duration(value) if isinstance(value, str) else value
    if not isinstance(span, timedelta) or span < timedelta(0):
        raise InvalidInput(f"the clock is moved by a span such as '1h', and not back: {value!r:.60}")
    return span


def _shown(job: ClaimedJob, attempt: AttemptHere, outcome: RunOutcome) -> str:
    entry = attempt.finish.error if attempt.finish else None
    told = (
        f"{type(attempt.error).__name__}: {attempt.error}"
        if entry is None
        else (f"{entry.error_class}: {entry.message}")
    )
    return f"{job.name} {outcome}, attempt {job.attempt}: {told}"
