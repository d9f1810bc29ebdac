"""The service that reads jobs: one, many, or a page."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from callboard.jobs.errors import NotFound, NotShown, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.job import Job
from callboard.jobs.model.new_job import Batch
from callboard.jobs.model.paging import check_limit, read_cursor, write_cursor
from callboard.jobs.model.receipt import Receipt, Written, job_as_known, job_as_written
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import reading
from callboard.jobs.operate.search_windows import windows
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Statements

log = structlog.get_logger(__name__)

#: The bytes of a position in a list of jobs: an id.
CURSOR_SIZE: Final = 16
#: A page of a search is returned after this time, also if it is not full. Seconds.
_SEARCH_FOR: Final = 10.0


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first. `next_cursor` leads to the next page; None on the last page."""

    items: list[Job]
    next_cursor: str | None


class Jobs:
    """Reads jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: UUID) -> Job:
        """Return the job. Raises NotFound."""
        with self._database.autocommit() as connection:
            return self.get_within(connection, job_id)

    @staticmethod
    def get_within(connection: Statements, job_id: UUID) -> Job:
        """Return the job as the caller's transaction sees it. Raises NotFound."""
        job = reading.get(connection, job_id)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    def get_many(self, ids: Sequence[UUID]) -> list[Job]:
        """Return the jobs of these ids that exist, in the order of the ids."""
        with self._database.autocommit() as connection:
            return self.get_many_within(connection, ids)

    @staticmethod
    def get_many_within(connection: Statements, ids: Sequence[UUID]) -> list[Job]:
        """Do what `get_many` does, as the caller's transaction sees the jobs."""
        found = reading.get_many(connection, ids)
        return [found[job_id] for job_id in ids if job_id in found]

    def enqueued(self, batch: Batch, written: Written) -> Job:
        """Return the job of a batch of one that is committed; see `enqueued_many`."""
        return self.enqueued_many(batch, written)[0]

    @staticmethod
    def as_written(batch: Batch, written: Written) -> list[Job] | None:
        """Return the jobs of a batch, in its order, if that needs no query."""
        jobs = [
            job_as_written(new, receipt) for new, receipt in zip(batch.jobs, written.receipts, strict=True)
        ]
        known = [job for job in jobs if job is not None]
        return known if len(known) == len(jobs) else None

    def enqueued_many(self, batch: Batch, written: Written) -> list[Job]:
        """Return the jobs of a committed batch, in its order. They are read if they must be.

        A job that cannot be read is returned as it was written: it is committed, so it must not look like an
        error. Raises NotShown only for a job that holds a unique key and that this batch did not change.
        """
        known = self.as_written(batch, written)
        if known is not None:
            return known
        receipts = written.receipts
        ids = [receipt.id for receipt in receipts]
        try:
            found = {job.id: job for job in self.get_many(ids)}
        except Exception as error:  # noqa: BLE001 - after the commit, no error may hide that the jobs exist
            log.warning("enqueue.unread", count=len(ids), reason=str(error)[:200])
            found = {}
        jobs = [
            found.get(receipt.id) or job_as_known(new, receipt)
            for new, receipt in zip(batch.jobs, receipts, strict=True)
        ]
        return [job or _not_shown(receipt) for job, receipt in zip(jobs, receipts, strict=True)]

    def page(self, which: JobFilter, *, cursor: str | None = None, limit: int = 50) -> JobPage:
        """Return jobs that match, newest first, up to 200.

        A search ends after a time. Its page may have few jobs, or none, and a cursor to go on from.
        """
        check_limit(limit)
        before = None if cursor is None else UUID(bytes=read_cursor(cursor, CURSOR_SIZE))
        ends_at = SYSTEM.monotonic() + _SEARCH_FOR
        items: list[Job] = []
        for part in windows(self._database, which, newest=True, after=before):
            with self._database.autocommit() as connection:
                items += reading.page(connection, part, before=before, limit=limit + 1 - len(items))
            if len(items) > limit:
                return JobPage(items[:limit], write_cursor(items[limit - 1].id.bytes))
            if part.between is not None and SYSTEM.monotonic() >= ends_at:
                return JobPage(items, write_cursor(part.between[0].bytes))
        return JobPage(items, None)


def _not_shown(receipt: Receipt) -> Job:
    with after_enqueue(f"job {receipt.id} is"):
        raise Unavailable("Postgres does not answer, or the job was deleted meanwhile")


@contextmanager
def after_enqueue(subject: str) -> Iterator[None]:
    """Make an outage during the read say that the jobs are committed: the caller must not enqueue them again.

    subject: the beginning of the message, such as "job 0192... is".
    """
    try:
        yield
    except (Unavailable, NotFound) as error:
        told = f"{subject} enqueued, but cannot be shown"
        raise NotShown(f"{told}: {error.message}", advice=f"{told} now; do not send it again") from error
