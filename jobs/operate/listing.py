"""The service that reads jobs: one, many, or a page."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from callboard.jobs.errors import NotFound, NotShown, Unavailable
from callboard.jobs.model.job import Job
from callboard.jobs.model.new_job import Batch
from callboard.jobs.model.paging import check_limit, read_cursor, write_cursor
from callboard.jobs.model.receipt import Receipt, Written, job_as_written
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.operate.repository import reading
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Statements

#: The bytes of a position in a list of jobs: an id.
CURSOR_SIZE: Final = 16


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
        """Return the job of a batch of one that is committed.

        Raises Unavailable when it cannot be read; the message names the id and says that the job is enqueued.
        """
        [receipt] = written.receipts
        return self.as_written(batch, receipt) or self.enqueued_many([receipt.id])[0]

    @staticmethod
    def as_written(batch: Batch, receipt: Receipt) -> Job | None:
        """Return the job of a batch of one, if it needs no query."""
        return job_as_written(batch, receipt)

    def enqueued_many(self, ids: Sequence[UUID]) -> list[Job]:
        """Read jobs that are committed, in the order of the ids. Raises Unavailable, as `enqueued` does."""
        with after_enqueue(f"job {ids[0]} is" if len(ids) == 1 else f"{len(ids)} jobs are"):
            found = self.get_many(ids)
            if len(found) < len(ids):
                raise NotFound("deleted meanwhile")
            return found

    def page(self, which: JobFilter, *, cursor: str | None = None, limit: int = 50) -> JobPage:
        """Return jobs that match, newest first, up to 200."""
        check_limit(limit)
        before = None if cursor is None else UUID(bytes=read_cursor(cursor, CURSOR_SIZE))
        with self._database.autocommit() as connection:
            items = reading.page(connection, which, before=before, limit=limit + 1)
        more = len(items) > limit
        items = items[:limit]
        return JobPage(items, write_cursor(items[-1].id.bytes) if more else None)


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
