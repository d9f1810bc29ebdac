"""What an operator does to jobs: cancel, retry, delete; by id, or by filter in batches that block nobody."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from jobs.database import Database
from jobs.errors import Conflict, NotFound, Unavailable
from jobs.records import Hint, Job
from jobs.repositories import job_moves, job_queries
from jobs.repositories.job_queries import JobFilter
from jobs.states import PENDING, TERMINAL, JobState, Verb
from jobs.transport import Transport

#: Jobs moved in one transaction of a verb by filter.
_BATCH: Final = 500
#: Jobs that one verb by filter moves at most.
BULK_LIMIT: Final = 100_000

log = structlog.get_logger(__name__)

_FROM: Final = {Verb.CANCEL: PENDING | {JobState.RUNNING}, Verb.RERUN: TERMINAL, Verb.DELETE: TERMINAL}
_EVENT: Final = {Verb.CANCEL: "job.cancelled", Verb.RERUN: "job.retried", Verb.DELETE: "job.deleted"}


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a verb by filter did, or with `dry_run` would do."""

    matched: int
    changed: int
    dry_run: bool


class Control:
    """The verbs of an operator."""

    def __init__(self, database: Database, transport: Transport) -> None:
        self._database = database
        self._transport = transport

    def cancel(self, job_id: UUID) -> Job:
        """End a job that has not begun; ask a running one to stop. A job that is cancelled already stays so."""
        return self._one(Verb.CANCEL, job_id, also=frozenset({JobState.CANCELLED}))

    def rerun(self, job_id: UUID) -> Job:
        """Queue a finished job again, with a fresh budget of attempts."""
        return self._one(Verb.RERUN, job_id)

    def delete(self, job_id: UUID) -> None:
        """Remove a finished job."""
        self._one(Verb.DELETE, job_id)

    def bulk(self, verb: Verb, which: JobFilter, *, limit: int = BULK_LIMIT, dry_run: bool = False) -> Bulk:
        """Apply a verb to the jobs that fit and that it can move; oldest first, in small transactions."""
        states = tuple(
            state
            for state in JobState
            if state in _FROM[verb] and (not which.states or state in which.states)
        )
        if not states:
            return Bulk(0, 0, dry_run)
        target = JobFilter(states, which.queue, which.name, which.tag, which.since, which.until, which.search)
        with self._database.autocommit() as connection:
            ids = job_queries.matching(connection, target, limit=min(limit, BULK_LIMIT))
        changed = 0
        if not dry_run:
            for start in range(0, len(ids), _BATCH):
                changed += len(self._move(verb, ids[start : start + _BATCH]))
        return Bulk(len(ids), changed, dry_run)

    def _one(self, verb: Verb, job_id: UUID, also: frozenset[JobState] = frozenset()) -> Job:
        with self._database.autocommit() as connection:
            before = job_queries.get(connection, job_id)
        if before is None:
            raise NotFound(f"there is no job {job_id}")
        if not self._move(verb, [job_id]) and before.state not in also:
            with self._database.autocommit() as connection:
                now = job_queries.states(connection, [job_id]).get(job_id)
            raise Conflict(_refusal(verb, job_id, now or before.state))
        if verb is Verb.DELETE:
            return before
        with self._database.autocommit() as connection:
            return job_queries.get(connection, job_id) or before

    def _move(self, verb: Verb, ids: Sequence[UUID]) -> list[UUID]:
        try:
            moved, hints = self._database.retrying(lambda connection: _VERBS[verb](connection, ids))
        except IntegrityError:
            if len(ids) == 1:
                raise Conflict(f"job {ids[0]} cannot run again: an active job holds its unique key") from None
            return [job for one in ids for job in self._move_or_leave(verb, one)]
        try:
            self._transport.push(hints)
            if verb is Verb.CANCEL:
                self._transport.announce(moved)
        except Unavailable as error:
            log.debug("redis.push_skipped", reason=error.message, count=len(hints))
        for job in moved:
            log.info(_EVENT[verb], job_id=str(job))
        return moved

    def _move_or_leave(self, verb: Verb, one: UUID) -> list[UUID]:
        try:
            return self._move(verb, [one])
        except Conflict:
            return []


def _cancel(connection: Connection, ids: Sequence[UUID]) -> tuple[list[UUID], list[Hint]]:
    return [job.id for job in job_moves.cancel(connection, ids)], []


def _rerun(connection: Connection, ids: Sequence[UUID]) -> tuple[list[UUID], list[Hint]]:
    hints = job_moves.rerun(connection, ids)
    return [hint.id for hint in hints], hints


def _delete(connection: Connection, ids: Sequence[UUID]) -> tuple[list[UUID], list[Hint]]:
    return job_moves.delete(connection, ids), []


_VERBS: Final[dict[Verb, Callable[[Connection, Sequence[UUID]], tuple[list[UUID], list[Hint]]]]] = {
    Verb.CANCEL: _cancel,
    Verb.RERUN: _rerun,
    Verb.DELETE: _delete,
}


def _refusal(verb: Verb, job_id: UUID, state: JobState) -> str:
    if verb is Verb.CANCEL:
        return f"job {job_id} cannot be cancelled: it is {state}"
    mend = "cancel it first, or wait for its end"
    what = "retried" if verb is Verb.RERUN else "deleted"
    return f"job {job_id} cannot be {what}: it is {state}; {mend}"
