"""The service that deletes what is older than its retention. It knows every table that grows by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

from callboard.jobs.counters import repository as counters_repository
from callboard.jobs.definitions import repository as job_types_repository
from callboard.jobs.enqueue.repository import holding
from callboard.jobs.errors import Busy
from callboard.jobs.idempotency import repository as idempotency_repository
from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.operate.repository import pruning
from callboard.jobs.postgres.database import Database
from callboard.jobs.schedules import repository as schedules_repository
from callboard.jobs.webhooks import repository as webhooks_repository

#: The number of rows that one statement deletes.
_BATCH: Final = 1_000
#: One call deletes at most this many batches of each kind. The next call continues.
_MAX_BATCHES: Final = 100
#: The log lines of a job are deleted with it, so a batch may take too long. A batch this many times smaller
#: is tried then.
_SMALLER: Final = 10


@dataclass(frozen=True, slots=True)
class RetentionSpans:
    """How long rows are kept.

    succeeded:  succeeded jobs, with their log lines, after their end.
    other:      all other finished jobs.
    ticks:      ticks of schedules.
    deliveries: webhook deliveries; a sender's id is known for as long.
    job_types:  job types that no live worker has.
    """

    succeeded: timedelta = timedelta(days=7)
    other: timedelta = timedelta(days=30)
    ticks: timedelta = timedelta(days=30)
    deliveries: timedelta = timedelta(days=30)
    job_types: timedelta = timedelta(days=30)


class Pruned(NamedTuple):
    """How many rows of each kind were deleted. The log lines of a job are deleted with it, uncounted."""

    jobs: int
    ticks: int
    deliveries: int
    unique_keys: int
    idempotency_keys: int
    job_types: int
    counters: int


class Retention:
    """Deletes old rows in small transactions, which do not block others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prune(self, spans: RetentionSpans) -> Pruned:
        """Delete what is older than its retention: at most 100,000 rows of each kind.

        Unique keys, idempotency keys and counters have their own ends.
        """
        succeeded = frozenset({JobState.SUCCEEDED})
        jobs = sum(
            self._delete(partial(pruning.prune, states=states, age=age))
            for states, age in ((succeeded, spans.succeeded), (TERMINAL - succeeded, spans.other))
        )
        return Pruned(
            jobs=jobs,
            ticks=self._delete(partial(schedules_repository.prune, age=spans.ticks)),
            deliveries=self._delete(partial(webhooks_repository.prune, age=spans.deliveries)),
            unique_keys=self._delete(holding.prune),
            idempotency_keys=self._delete(idempotency_repository.prune),
            job_types=self._delete(partial(job_types_repository.prune, age=spans.job_types)),
            counters=self._delete(counters_repository.prune),
        )

    def _delete(self, batch: Callable[..., int]) -> int:
        deleted, size = 0, _BATCH
        for _ in range(_MAX_BATCHES):
            try:
                with self._database.autocommit() as connection:
                    count = batch(connection, limit=size)
            except Busy:
                if size == 1:
                    raise
                size //= _SMALLER
                continue
            deleted += count
            if count < size:
                break
        return deleted
