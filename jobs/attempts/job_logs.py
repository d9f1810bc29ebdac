"""The service that reads the log lines of jobs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.attempts.repository import log_rows
from callboard.jobs.errors import InvalidInput, NotFound
from callboard.jobs.model.paging import check_limit, read_cursor, write_cursor
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection

#: One statement reads this many lines when a caller wants all lines.
_CHUNK: Final = 1_000
#: The most lines of one list.
GATHER_LIMIT: Final = 20_000
#: The pause between two reads while a caller follows a job's log. Seconds.
_FOLLOW_PAUSE: Final = 0.5
_START: Final = (0, 0)
#: The bytes of a position in a list of lines.
CURSOR_SIZE: Final = 8
_HIGHEST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines, oldest first. `next_cursor` leads to the next page; None on the last page."""

    items: list[JobLogLine]
    next_cursor: str | None


class JobLogs:
    """Reads the log lines of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, job_id: UUID, *, attempt: int | None = None, cursor: str | None = None, limit: int = 50
    ) -> LogPage:
        """Return lines of a job, oldest first, up to 200. Raises NotFound when there is no such job."""
        check_limit(limit)
        after = _START if cursor is None else _read_position(cursor)
        with self._database.autocommit() as connection:
            items = log_rows.page(connection, job_id, attempt=_checked(attempt), after=after, limit=limit + 1)
            if not items:
                _check_exists(connection, job_id)
        more = len(items) > limit
        items = items[:limit]
        return LogPage(items, _cursor_after(items[-1]) if more else None)

    def newest(self, job_id: UUID, *, attempt: int | None = None, limit: int) -> list[JobLogLine]:
        """Return the newest `limit` lines of a job, oldest first.

        Raises NotFound when there is no such job.
        """
        check_limit(limit, GATHER_LIMIT)
        with self._database.autocommit() as connection:
            items = log_rows.newest(connection, job_id, attempt=_checked(attempt), limit=limit)
            if not items:
                _check_exists(connection, job_id)
        return items

    def after(
        self, job_id: UUID, last: JobLogLine | None, *, attempt: int | None = None
    ) -> Iterator[JobLogLine]:
        """Yield all lines after `last` that exist now, oldest first. They are read in chunks."""
        position = _START if last is None else (last.epoch, last.line)
        while True:
            with self._database.autocommit() as connection:
                items = log_rows.page(
                    connection, job_id, attempt=_checked(attempt), after=position, limit=_CHUNK
                )
            yield from items
            if len(items) < _CHUNK:
                return
            position = (items[-1].epoch, items[-1].line)

    def follow(
        self,
        job_id: UUID,
        last: JobLogLine | None,
        *,
        attempt: int | None = None,
        wait: Callable[[float], object],
    ) -> Iterator[JobLogLine]:
        """Yield all lines after `last`, and new lines as they come, until the job has ended.

        Raises NotFound when the job is deleted.

        wait: called between two reads, with the length of the pause in seconds.
        """
        while True:
            with self._database.autocommit() as connection:
                state = log_rows.job_state(connection, job_id)
            # The state is read before the lines: all lines of a job are written before its end.
            for line in self.after(job_id, last, attempt=attempt):
                last = line
                yield line
            if state is None:
                raise NotFound(f"there is no job {job_id}")
            if state.is_terminal:
                return
            wait(_FOLLOW_PAUSE)


def _check_exists(connection: Connection, job_id: UUID) -> None:
    if log_rows.job_state(connection, job_id) is None:
        raise NotFound(f"there is no job {job_id}")


def _checked(attempt: int | None) -> int | None:
    if attempt is not None and not 0 <= attempt <= _HIGHEST:
        raise InvalidInput(
            "attempt must be a number from 0 on", fields={"attempt": "a number from 0 on is expected"}
        )
    return attempt


def _cursor_after(line: JobLogLine) -> str:
    return write_cursor(line.epoch.to_bytes(4) + line.line.to_bytes(4))


def _read_position(cursor: str) -> tuple[int, int]:
    raw = read_cursor(cursor, CURSOR_SIZE)
    # No line is behind the highest position.
    return min(int.from_bytes(raw[:4]), _HIGHEST), min(int.from_bytes(raw[4:]), _HIGHEST)
