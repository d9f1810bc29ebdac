"""Reading jobs: one, many, a page."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from callboard.jobs.errors import InvalidInput, NotFound, Unavailable
from callboard.jobs.model.job import Job
from callboard.jobs.operate.job_filter import PAGE_LIMIT, JobFilter
from callboard.jobs.operate.repository import reading
from callboard.jobs.postgres.database import Database


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `next_cursor` leads to the next page and is None on the last."""

    items: list[Job]
    next_cursor: str | None


class Jobs:
    """Reads jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: UUID) -> Job:
        """The job; raises NotFound."""
        with self._database.autocommit() as connection:
            return self.get_within(connection, job_id)

    @staticmethod
    def get_within(connection: Connection, job_id: UUID) -> Job:
        """The job as the caller's own transaction sees it; raises NotFound."""
        job = reading.get(connection, job_id)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    def get_many(self, ids: Sequence[UUID]) -> list[Job]:
        """The jobs of these ids that are there, in the order of the ids."""
        with self._database.autocommit() as connection:
            return self.get_many_within(connection, ids)

    @staticmethod
    def get_many_within(connection: Connection, ids: Sequence[UUID]) -> list[Job]:
        """The same, as the caller's own transaction sees them."""
        found = reading.get_many(connection, ids)
        return [found[job_id] for job_id in ids if job_id in found]

    def page(self, which: JobFilter, *, cursor: str | None = None, limit: int = 50) -> JobPage:
        """Jobs that fit, newest first, up to 200 at once."""
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidInput(
                f"limit must lie between 1 and {PAGE_LIMIT}", fields={"limit": f"1 to {PAGE_LIMIT}"}
            )
        before = None if cursor is None else _read_cursor(cursor)
        with self._database.autocommit() as connection:
            items = reading.page(connection, which, before=before, limit=limit + 1)
        more = len(items) > limit
        items = items[:limit]
        return JobPage(items, _write_cursor(items[-1].id) if more else None)


@contextmanager
def accepted(job_id: UUID) -> Iterator[None]:
    """Where a job that is committed cannot be read within the block, say so: nobody shall think that it has to be sent again."""
    try:
        yield
    except (Unavailable, NotFound) as error:
        raise Unavailable(f"job {job_id} is enqueued, but cannot be shown: {error.message}") from error


def _write_cursor(job_id: UUID) -> str:
    return base64.urlsafe_b64encode(job_id.bytes).decode().rstrip("=")


def _read_cursor(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor[:64] + "=="))
    except ValueError:
        raise InvalidInput(
            "the cursor is not one that a list gave out", fields={"cursor": "not valid"}
        ) from None
