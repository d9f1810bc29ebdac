"""Once a second a worker writes the progress of its jobs to Postgres and reads cancel requests."""

from collections.abc import Sequence
from uuid import UUID

from callboard.jobs.attempts.progress import Progress
from callboard.jobs.attempts.repository import lease_rows, progress_rows
from callboard.jobs.attempts.worker import Hold
from callboard.jobs.model.endings import CancelRequest
from callboard.jobs.postgres.database import Database


class Reports:
    """Writes progress of one worker's jobs and reads cancel requests.

    Raises Unavailable while Postgres is away.
    """

    def __init__(self, database: Database, worker: UUID) -> None:
        self._database = database
        self._worker = worker

    def report(self, reports: Sequence[Progress]) -> list[CancelRequest]:
        """Write progress, fenced by epoch; return the jobs of this worker that must stop."""
        with self._database.autocommit() as connection:
            if reports:
                progress_rows.write(connection, reports)
            return progress_rows.cancel_requested(connection, self._worker)

    def hold(self, found: Hold | None) -> None:
        """Store that a job holds what others of this worker need; None: no job does any more."""
        with self._database.autocommit() as connection:
            lease_rows.hold(connection, self._worker, found)
