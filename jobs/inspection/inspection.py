"""The service that finds rows which cannot be read as they are, because somebody changed them by hand."""

from collections import Counter
from typing import Final

from callboard.jobs.access import repository as access_repository
from callboard.jobs.attempts.repository import lease_rows
from callboard.jobs.definitions import repository as job_types_repository
from callboard.jobs.metric_labels import GaugeTable
from callboard.jobs.model.unreadable import RowProblem, unreadable_values
from callboard.jobs.operate.repository import queue_rows, reading
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection
from callboard.jobs.postgres.rows.ledger import LEDGER
from callboard.jobs.schedules import problems as schedule_problems
from callboard.jobs.schedules import repository as schedules_repository
from callboard.jobs.webhooks import repository as webhooks_repository

UNREADABLE_ROWS: Final = GaugeTable(
    "callboard_unreadable_rows",
    "Rows that were changed by hand and cannot be read as they are.",
    ["table"],
    fixed=["table"],
)
_ODD_TICK: Final = "it is not a time that Callboard can read; the tick may never be pruned"
#: How many unfinished jobs are read.
_JOBS: Final = 10_000


class Inspection:
    """Reads the small tables, and a sample of the large ones. Changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def problems(self) -> list[RowProblem]:
        """Return the problems of rows, sorted by table and row."""
        with self._database.autocommit() as connection:
            return sorted(
                [
                    *_schedules(connection),
                    *queue_rows.problems(connection),
                    *webhooks_repository.problems(connection),
                    *access_repository.problems(connection),
                    *job_types_repository.problems(connection),
                    *_workers(connection),
                    *reading.problems(connection, _JOBS),
                ]
            )

    def watch(self) -> None:
        """Log the problems that are new and the rows that are mended, and set the gauge."""
        found = self.problems()
        LEDGER.replace(found)
        counts = Counter(table for table, _ in {(one.table, one.key) for one in found})
        UNREADABLE_ROWS.replace({(table,): count for table, count in counts.items()})


def _schedules(connection: Connection) -> list[RowProblem]:
    found = [
        one for each in schedules_repository.every(connection) for one in schedule_problems.problems_of(each)
    ]
    ticks = set(schedules_repository.odd_ticks(connection))
    return found + [RowProblem("schedule_ticks", one, "decided_at", _ODD_TICK) for one in ticks]


def _workers(connection: Connection) -> list[RowProblem]:
    return [
        RowProblem("workers", str(worker.id), *each)
        for worker in lease_rows.live(connection)
        for each in unreadable_values(worker).items()
    ]
