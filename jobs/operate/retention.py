"""The service that deletes what is older than its retention: jobs, unique keys and idempotency keys."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

from callboard.jobs.enqueue.repository import holding
from callboard.jobs.idempotency import repository as idempotency_repository
from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.operate.repository import pruning
from callboard.jobs.postgres.database import Database
from callboard.jobs.postgres.protocols import Connection

#: The number of rows that one statement deletes.
_BATCH: Final = 1_000
#: One call deletes at most this many batches of each kind. The next call continues.
_MAX_BATCHES: Final = 100


class Pruned(NamedTuple):
    """How many jobs and how many keys were deleted."""

    jobs: int
    keys: int


class Retention:
    """Deletes old rows in small transactions, which do not block others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prune(self, *, succeeded: timedelta, other: timedelta) -> Pruned:
        """Delete finished jobs beyond their retention, unique keys whose period is over, and old answers.

        succeeded: the retention of succeeded jobs. other: the retention of all other finished jobs.
        """
        spans = (
            (frozenset({JobState.SUCCEEDED}), succeeded),
            (TERMINAL - {JobState.SUCCEEDED}, other),
        )
        jobs = sum(
            self._delete(partial(pruning.prune, states=states, age=age, limit=_BATCH))
            for states, age in spans
        )
        keys = sum(
            self._delete(partial(repository.prune, limit=_BATCH))
            for repository in (holding, idempotency_repository)
        )
        return Pruned(jobs, keys)

    def _delete(self, batch: Callable[[Connection], int]) -> int:
        deleted = 0
        for _ in range(_MAX_BATCHES):
            with self._database.autocommit() as connection:
                count = batch(connection)
            deleted += count
            if count < _BATCH:
                break
        return deleted
