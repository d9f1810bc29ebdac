"""Dispatching: messages become jobs, by themselves or in the transaction in which an attempt ends."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from callboard.jobs.attempts.repository import ending
from callboard.jobs.counters import repository as counters_repository
from callboard.jobs.enqueue.batch import NewJob, Receipt
from callboard.jobs.enqueue.enqueue import Enqueue
from callboard.jobs.enqueue.unique_keys import Writing
from callboard.jobs.errors import CallboardError, Conflict, Unavailable
from callboard.jobs.followers.dispatch import Dispatch
from callboard.jobs.metrics import JOBS_ENQUEUED
from callboard.jobs.model.endings import Finish, Finished
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.ids import new_id
from callboard.jobs.model.job import Source
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database

_PRIMARY_KEY: Final = "jobs_pkey"

log = structlog.get_logger(__name__)


class Dispatching:
    """Writes dispatches. A message that is sent a second time is a new job, with an id of its own."""

    def __init__(self, database: Database, enqueue: Enqueue) -> None:
        self._database = database
        self._enqueue = enqueue

    def accept(self, dispatch: Dispatch, source: Source) -> Receipt:
        """Accept one; when this returns, it is committed."""
        job = self._check(dispatch, source)
        try:
            return self._enqueue.checked([job])[0]
        except IntegrityError as error:
            if not _is_taken(error):
                raise
            return self._enqueue.checked([job._replace(id=new_id())])[0]

    def finish(self, ends: Sequence[Finish]) -> list[Finished]:
        """Write how attempts ended and enqueue what follows from it, all in one transaction.

        What follows an end that is refused as stale is not enqueued. One that cannot be enqueued at all is left out,
        with a line in the log: the attempt has ended all the same.
        """
        following = {end.id: self._following(end) for end in ends}
        try:
            done, born, hints = self._database.retrying(lambda one: self._write(one, ends, following))
        except IntegrityError as error:
            if not _is_taken(error):
                raise
            # Its parent ran again, or somebody keeps messages and sends them anew.
            fresh = {
                parent: [(one, job._replace(id=new_id())) for one, job in pairs]
                for parent, pairs in following.items()
            }
            done, born, hints = self._database.retrying(lambda one: self._write(one, ends, fresh))
        for job in born:
            JOBS_ENQUEUED.labels(job.queue, job.name, job.source.door).inc()
        self._enqueue.push(hints)
        return done

    def _write(
        self,
        connection: Connection,
        ends: Sequence[Finish],
        following: dict[UUID, list[tuple[Dispatch, NewJob]]],
    ) -> tuple[list[Finished], list[NewJob], list[Hint]]:
        done = ending.finish(connection, ends)
        asked = [(end.id, one, job) for end in done for one, job in following[end.id]]
        # In one order for everybody: two that arrive at the same barriers wait for each other, and never in a ring.
        arrivals = sorted({(one.barrier, end) for end, one, _ in asked if one.barrier is not None})
        last = {arrival for arrival in arrivals if counters_repository.arrive(connection, arrival[0])}
        born = [job for end, one, job in asked if one.barrier is None or (one.barrier, end) in last]
        if not born:
            return done, [], []
        writing = Writing(connection)
        outcomes = writing.write(born)
        notices.limited(connection, writing.hints)
        new = []
        for job, outcome in zip(born, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                _refused(job.source.id, job.name, outcome)
            elif not outcome.existed:
                new.append(job)
        return done, new, writing.hints

    def _following(self, end: Finish) -> list[tuple[Dispatch, NewJob]]:
        pairs = []
        for dispatch in end.children:
            try:
                pairs.append((dispatch, self._check(dispatch, Source("job", str(end.id)))))
            except Unavailable:
                raise
            except CallboardError as error:
                _refused(str(end.id), dispatch.request.name, error)
        return pairs

    def _check(self, dispatch: Dispatch, source: Source) -> NewJob:
        job = self._enqueue.check(dispatch.request, source)
        if dispatch.id is not None:
            job = job._replace(id=dispatch.id)
        return job if dispatch.max_attempts is None else job._replace(max_attempts=dispatch.max_attempts)


def _is_taken(error: IntegrityError) -> bool:
    """Whether a job of this id is there already."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None) == _PRIMARY_KEY


def _refused(parent: str | None, name: str, error: CallboardError) -> None:
    log.error("job.follower_refused", job_id=parent, job=name, reason=error.message)
