"""Enqueue the jobs that follow an attempt's end (callbacks, pipelines) in the transaction of that end."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import structlog

from callboard.jobs.attempts.repository import ending
from callboard.jobs.counters import repository as counters_repository
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.errors import CallboardError, Conflict, Duplicate, Unavailable
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.dispatch import JOB_ID_CONSTRAINT, dispatched
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.job import Source
from callboard.jobs.model.new_job import NewJob, batch_of
from callboard.jobs.model.receipt import Written, WrittenMixed
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Statements

log = structlog.get_logger(__name__)


class _Follower(NamedTuple):
    """A job that follows an end, and the barrier that it waits for, if any."""

    job: NewJob
    barrier: str | None


class FollowerHook:
    """The end hook that enqueues the following jobs."""

    def __init__(self, database: Database, enqueue: Enqueue) -> None:
        self._database = database
        self._enqueue = enqueue

    def finish(self, ends: Sequence[Finish]) -> list[Finished]:
        """Write the ends and enqueue the following jobs in one transaction; return the ends that are not
        stale.

        A stale end has no followers. A follower that cannot be enqueued is left out and logged. The attempt
        ends in any case.
        """
        following = {end.id: self._checked(end) for end in ends}
        try:
            done, written = self._database.retrying(self._work(ends, following), operation="finish")
        except Duplicate as error:
            if error.constraint != JOB_ID_CONSTRAINT:
                raise
            # The id exists already: the parent ran again, or a program sent a message twice. Each one is a
            # new job.
            fresh = {
                parent: [one._replace(job=one.job._replace(id=new_id())) for one in followers]
                for parent, followers in following.items()
            }
            done, written = self._database.retrying(self._work(ends, fresh), operation="finish")
        if written is not None:
            self._enqueue.announce(written)
        return done

    def _work(
        self, ends: Sequence[Finish], following: Mapping[UUID, Sequence[_Follower]]
    ) -> Callable[[Statements], tuple[list[Finished], Written | None]]:
        def work(statements: Statements) -> tuple[list[Finished], Written | None]:
            done = ending.finish(statements, ends)
            born = _ready(statements, done, following)
            if not born:
                return done, None
            written = self._enqueue.write(statements, batch_of(born))
            _log_conflicts(written)
            return done, written

        return work

    def _checked(self, end: Finish) -> list[_Follower]:
        followers = []
        for dispatch in end.children:
            try:
                parent = Source("job", str(end.id), dispatch.request_id)
                job = self._enqueue.check_job(dispatch.request, parent, text_keys=True)
            except Unavailable:
                raise
            except CallboardError as error:
                _log_refusal(str(end.id), dispatch.request.name, error)
            else:
                followers.append(_Follower(dispatched(dispatch, job), dispatch.barrier))
        return followers


def _ready(
    statements: Statements, done: Sequence[Finished], following: Mapping[UUID, Sequence[_Follower]]
) -> list[NewJob]:
    """Return the jobs to enqueue with these ends. A job with a barrier follows the last arrival there."""
    asked = [(end.id, one) for end in done for one in following[end.id]]
    # Every transaction takes barriers in the same order, so two that arrive at the same ones cannot deadlock.
    arrivals = sorted({(one.barrier, end) for end, one in asked if one.barrier is not None})
    last = {arrival for arrival in arrivals if counters_repository.arrive(statements, arrival[0])}
    return [one.job for end, one in asked if one.barrier is None or (one.barrier, end) in last]


def _log_conflicts(written: Written) -> None:
    if isinstance(written, WrittenMixed):
        for job, outcome in zip(written.jobs, written.outcomes, strict=True):
            if isinstance(outcome, Conflict):
                _log_refusal(job.source_id, job.settings.name, outcome)


def _log_refusal(parent: str | None, name: str, error: CallboardError) -> None:
    log.error("job.next_job_refused", job_id=parent, job=name, reason=error.message)
