"""What jobs log, and their last words: written by workers, read by everyone."""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from callboard.jobs.attempts.log_line import JobLogLine
from callboard.jobs.attempts.log_lines import Portion
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.attempts.repository import log_rows, progress_rows
from callboard.jobs.errors import InvalidInput, NotFound
from callboard.jobs.metrics import JOB_LOG_LINES
from callboard.jobs.operate.job_filter import PAGE_LIMIT
from callboard.jobs.operate.repository import reading
from callboard.jobs.postgres.database import Database

#: Lines read at once where all are wanted.
_CHUNK: Final = 1_000
#: Lines that are given out at once at most where they are gathered in memory.
GATHER_LIMIT: Final = 20_000
#: Attempts whose lines go into one statement.
_PORTIONS: Final = 20
#: Between two looks of somebody who follows. Seconds.
_LOOK_EVERY: Final = 0.5
_START: Final = (0, 0)
_HIGHEST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines, oldest first; `next_cursor` leads to the next page and is None on the last."""

    items: list[JobLogLine]
    next_cursor: str | None


class JobLogs:
    """Reads what jobs logged."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, job_id: UUID, *, attempt: int | None = None, cursor: str | None = None, limit: int = 50
    ) -> LogPage:
        """Lines of a job, oldest first, up to 200 at once; raises NotFound when there is no such job."""
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidInput(
                f"limit must lie between 1 and {PAGE_LIMIT}", fields={"limit": f"1 to {PAGE_LIMIT}"}
            )
        after = _START if cursor is None else _read_cursor(cursor)
        with self._database.autocommit() as connection:
            items = log_rows.page(connection, job_id, attempt=_attempt(attempt), after=after, limit=limit + 1)
            if not items and not reading.states(connection, [job_id]):
                raise NotFound(f"there is no job {job_id}")
        more = len(items) > limit
        items = items[:limit]
        return LogPage(items, _write_cursor(items[-1]) if more else None)

    def newest(self, job_id: UUID, *, attempt: int | None = None, limit: int) -> list[JobLogLine]:
        """The newest `limit` lines of a job, oldest first; raises NotFound when there is no such job."""
        if not 1 <= limit <= GATHER_LIMIT:
            raise InvalidInput(
                f"limit must lie between 1 and {GATHER_LIMIT}", fields={"limit": f"1 to {GATHER_LIMIT}"}
            )
        with self._database.autocommit() as connection:
            items = log_rows.newest(connection, job_id, attempt=_attempt(attempt), limit=limit)
            if not items and not reading.states(connection, [job_id]):
                raise NotFound(f"there is no job {job_id}")
        return items

    def after(
        self, job_id: UUID, last: JobLogLine | None, *, attempt: int | None = None
    ) -> Iterator[JobLogLine]:
        """All lines beyond `last` that there are by now, oldest first, read in chunks."""
        position = _START if last is None else (last.epoch, last.line)
        while True:
            with self._database.autocommit() as connection:
                items = log_rows.page(
                    connection, job_id, attempt=_attempt(attempt), after=position, limit=_CHUNK
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
        """All lines beyond `last`, those to come too, until the job has ended; raises NotFound once it is gone.

        wait: is called between two looks, with the seconds until the next.
        """
        while True:
            with self._database.autocommit() as connection:
                state = reading.states(connection, [job_id]).get(job_id)
            # The state comes first: what was logged before the end is there by then.
            for line in self.after(job_id, last, attempt=attempt):
                last = line
                yield line
            if state is None:
                raise NotFound(f"there is no job {job_id}")
            if state.is_terminal:
                return
            wait(_LOOK_EVERY)


class LastWords:
    """Writes, for a worker, what attempts have logged and reported; called from one thread.

    None of it need survive a crash of Postgres itself, so no commit waits for the disk.
    """

    def __init__(self, database: Database) -> None:
        self._lane = database.lane(durable=False)

    def write(self, portions: Sequence[Portion], reports: Sequence[Progress]) -> None:
        """Write lines and progress, the latter fenced by epoch; may be repeated when its answer was lost."""
        if reports:
            self._lane.run(lambda connection: progress_rows.write(connection, reports))
        for start in range(0, len(portions), _PORTIONS):
            self._lines(portions[start : start + _PORTIONS])

    def _lines(self, portions: Sequence[Portion]) -> None:
        written = self._lane.run(lambda connection: log_rows.write(connection, portions))
        beyond = [portion for portion in portions if portion.keep_from > 1]
        if beyond:
            self._lane.run(lambda connection: log_rows.trim(connection, beyond))
        JOB_LOG_LINES.labels("written").inc(written)
        JOB_LOG_LINES.labels("dropped").inc(sum(portion.dropped for portion in portions))

    def close(self) -> None:
        self._lane.close()


def _attempt(attempt: int | None) -> int | None:
    if attempt is not None and not 0 <= attempt <= _HIGHEST:
        raise InvalidInput(
            "attempt must be a number from 0 on", fields={"attempt": "a number from 0 on is expected"}
        )
    return attempt


def _write_cursor(line: JobLogLine) -> str:
    raw = line.epoch.to_bytes(4) + line.line.to_bytes(4)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        raw = base64.b64decode(cursor[:64] + "=", altchars=b"-_", validate=True)
        epoch, line = int.from_bytes(raw[:4]), int.from_bytes(raw[4:])
        if len(raw) != 2 * 4 or max(epoch, line) > _HIGHEST:
            raise ValueError
    except ValueError:
        raise InvalidInput(
            "the cursor is not one that a list gave out", fields={"cursor": "not valid"}
        ) from None
    return epoch, line
