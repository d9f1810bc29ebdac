"""The service that writes the log lines and the latest progress of attempts."""

from collections.abc import Sequence
from typing import Final

from callboard.jobs.attempts.log_lines import Portion
from callboard.jobs.attempts.progress import Progress
from callboard.jobs.attempts.repository import log_rows, progress_rows
from callboard.jobs.metrics import JOB_LOG_LINES
from callboard.jobs.postgres.database import Database

#: The lines of this many attempts go into one statement.
_BATCH: Final = 20


class JobLogWriter:
    """Writes log lines and progress for a worker. Called from one thread.

    The commits do not wait for the disk: a crash of Postgres may lose the last lines.
    """

    def __init__(self, database: Database) -> None:
        self._kept = database.kept("job_log", durable=False)

    def write(self, portions: Sequence[Portion], reports: Sequence[Progress]) -> None:
        """Write lines and progress; the epoch fences progress. May be repeated if its answer was lost."""
        if reports:
            self._kept.run(lambda to: progress_rows.write(to, reports))
        for start in range(0, len(portions), _BATCH):
            self._write_lines(portions[start : start + _BATCH])

    def close(self) -> None:
        """Close the kept connection."""
        self._kept.close()

    def _write_lines(self, portions: Sequence[Portion]) -> None:
        written = self._kept.run(lambda to: log_rows.write(to, portions))
        too_many = [portion for portion in portions if portion.keep_from > 1]
        if too_many:
            self._kept.run(lambda to: log_rows.trim(to, too_many))
        JOB_LOG_LINES.labels("written").inc(written)
        JOB_LOG_LINES.labels("dropped").inc(sum(portion.dropped for portion in portions))
