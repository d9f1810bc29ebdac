"""The service for operators' commands on jobs: cancel, retry and delete, by id or by filter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from callboard.jobs.errors import Conflict, Duplicate, InvalidInput, NotFound
from callboard.jobs.metrics import count_cancelled
from callboard.jobs.model.endings import Cancelled
from callboard.jobs.model.hint import Hint
from callboard.jobs.model.job import Job
from callboard.jobs.model.states import PENDING, TERMINAL, JobState, Verb
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import moving, reading
from callboard.jobs.operate.search_windows import windows
from callboard.jobs.postgres import notices
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.redis.transport import Transport, best_effort

#: A verb by filter changes this many jobs in one transaction.
_BATCH: Final = 500
#: A verb by filter changes at most this many jobs.
BULK_LIMIT: Final = 100_000

log = structlog.get_logger(__name__)

_FROM: Final = {Verb.CANCEL: PENDING | {JobState.RUNNING}, Verb.RERUN: TERMINAL, Verb.DELETE: TERMINAL}
_EVENT: Final = {Verb.CANCEL: "job.cancelled", Verb.RERUN: "job.retried", Verb.DELETE: "job.deleted"}


class Moved(NamedTuple):
    """The result of a verb: the jobs it changed, hints for those that are queued, and those it cancelled."""

    ids: list[UUID]
    hints: Sequence[Hint] = ()
    cancelled: Sequence[Cancelled] = ()


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a verb by filter did, or with `dry_run` would do.

    complete: False when more jobs match than the given limit, or BULK_LIMIT, allows.
    """

    matched: int
    changed: int
    dry_run: bool
    complete: bool = True


class Control:
    """The verbs of an operator."""

    def __init__(self, database: Database, transport: Transport) -> None:
        self._database = database
        self._transport = transport

    def cancel(self, job_id: UUID, *, force: bool = False) -> Job:
        """Cancel a job that has not started, or ask a running job to stop. A cancelled job stays cancelled.

        force: kill the worker child if the job does not stop within seconds. The other jobs of that child go
               back to their queues.
        """
        return self._one(Verb.CANCEL, job_id, also=frozenset({JobState.CANCELLED}), force=force)

    def rerun(self, job_id: UUID) -> Job:
        """Queue a finished job again, with all its attempts."""
        return self._one(Verb.RERUN, job_id)

    def delete(self, job_id: UUID) -> None:
        """Delete a finished job."""
        self._one(Verb.DELETE, job_id)

    def bulk(
        self,
        verb: Verb,
        which: JobFilter,
        *,
        limit: int = BULK_LIMIT,
        dry_run: bool = False,
        force: bool = False,
    ) -> Bulk:
        """Apply a verb to the jobs that match and are in a state it can change; oldest first, in small
        transactions.

        force: as for `cancel`.
        """
        if limit < 0:
            raise InvalidInput("limit must not be negative", fields={"limit": "0 or more"})
        states = tuple(
            state
            for state in JobState
            if state in _FROM[verb] and (not which.states or state in which.states)
        )
        if not states:
            return Bulk(0, 0, dry_run)
        target = JobFilter(states, which.queue, which.name, which.tag, which.since, which.until, which.search)
        most = min(limit, BULK_LIMIT)
        if dry_run:
            found = 0
            for part in windows(self._database, target):
                with self._database.autocommit() as connection:
                    found += reading.count(connection, part, limit=most + 1 - found)
                if found > most:
                    break
            return Bulk(min(found, most), 0, dry_run, complete=found <= most)
        ids: list[UUID] = []
        for part in windows(self._database, target):
            with self._database.autocommit() as connection:
                ids += reading.matching(connection, part, limit=most + 1 - len(ids))
            if len(ids) > most:
                break
        complete, ids = len(ids) <= most, ids[:most]
        changed = 0
        for start in range(0, len(ids), _BATCH):
            changed += len(self._move(verb, ids[start : start + _BATCH], force=force))
        return Bulk(len(ids), changed, dry_run, complete)

    def _one(
        self, verb: Verb, job_id: UUID, also: frozenset[JobState] = frozenset(), *, force: bool = False
    ) -> Job:
        with self._database.autocommit() as connection:
            before = reading.get(connection, job_id)
        if before is None:
            raise NotFound(f"there is no job {job_id}")
        if not self._move(verb, [job_id], force=force) and before.state not in also:
            with self._database.autocommit() as connection:
                now = reading.states(connection, [job_id]).get(job_id) or before.state
            # Somebody else may have done the same meanwhile.
            if now not in also:
                raise Conflict(_refusal(verb, job_id, now))
        if verb is Verb.DELETE:
            return before
        with self._database.autocommit() as connection:
            return reading.get(connection, job_id) or before

    def _move(self, verb: Verb, ids: Sequence[UUID], *, force: bool = False) -> list[UUID]:
        act = _cancel_by_force if force and verb is Verb.CANCEL else _VERBS[verb]
        try:
            moved = self._database.retrying(lambda connection: act(connection, ids))
        except Duplicate:
            if len(ids) == 1:
                raise Conflict(f"job {ids[0]} cannot run again: an active job holds its unique key") from None
            # Split the batch in halves: most jobs can still be changed together.
            half = len(ids) // 2
            return [*self._move_or_leave(verb, ids[:half]), *self._move_or_leave(verb, ids[half:])]
        with best_effort("push", count=len(moved.hints)):
            self._transport.push(moved.hints)
            if verb is Verb.CANCEL:
                self._transport.announce(moved.ids)
        count_cancelled(moved.cancelled)
        for job in moved.ids:
            log.info(_EVENT[verb], job_id=str(job))
        return moved.ids

    def _move_or_leave(self, verb: Verb, ids: Sequence[UUID]) -> list[UUID]:
        try:
            return self._move(verb, ids)
        except Conflict:
            return []


def _cancel(connection: Connection, ids: Sequence[UUID]) -> Moved:
    done = moving.cancel(connection, ids)
    return Moved([job.id for job in done], cancelled=done)


def _cancel_by_force(connection: Connection, ids: Sequence[UUID]) -> Moved:
    done = moving.cancel(connection, ids, forced=True)
    return Moved([job.id for job in done], cancelled=done)


def _rerun(connection: Connection, ids: Sequence[UUID]) -> Moved:
    hints = moving.rerun(connection, ids)
    notices.limited(connection, hints)
    return Moved([hint.id for hint in hints], hints)


def _delete(connection: Connection, ids: Sequence[UUID]) -> Moved:
    return Moved(moving.delete(connection, ids))


_VERBS: Final[dict[Verb, Callable[[Connection, Sequence[UUID]], Moved]]] = {
    Verb.CANCEL: _cancel,
    Verb.RERUN: _rerun,
    Verb.DELETE: _delete,
}


def _refusal(verb: Verb, job_id: UUID, state: JobState) -> str:
    if verb is Verb.CANCEL:
        return f"job {job_id} cannot be cancelled: it is {state}"
    what = "retried" if verb is Verb.RERUN else "deleted"
    return f"job {job_id} cannot be {what}: it is {state}; cancel it first, or wait for its end"
