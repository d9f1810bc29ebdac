"""The pruner: removes what is older than its retention, in batches that block nobody."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection

from callboard.jobs.enqueue.repository import holding
from callboard.jobs.idempotency import repository as idempotency_repository
from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.operate.repository import pruning
from callboard.jobs.postgres.database import Database

_BATCH: Final = 1_000
#: Batches of one round; the next round goes on.
_MOST_BATCHES: Final = 100

log = structlog.get_logger(__name__)


class Pruner:
    """Keeps history as long as the settings say: what succeeded for one span, all else for another.

    Besides: unique keys whose period is over, and answers to idempotency keys that are a day old.
    """

    def __init__(self, database: Database, *, succeeded: timedelta, other: timedelta) -> None:
        self._database = database
        self._spans = (
            (frozenset({JobState.SUCCEEDED}), succeeded),
            (TERMINAL - {JobState.SUCCEEDED}, other),
        )

    def round(self) -> int:
        """Remove what is too old; returns how many jobs that were."""
        pruned = sum(
            self._prune(partial(pruning.prune, states=states, age=age, limit=_BATCH))
            for states, age in self._spans
        )
        keys = sum(
            self._prune(partial(repository.prune, limit=_BATCH))
            for repository in (holding, idempotency_repository)
        )
        if pruned or keys:
            log.info("jobs.pruned", count=pruned, keys=keys)
        return pruned

    def _prune(self, remove: Callable[[Connection], int]) -> int:
        pruned = 0
        for _ in range(_MOST_BATCHES):
            with self._database.autocommit() as connection:
                removed = remove(connection)
            pruned += removed
            if removed < _BATCH:
                break
        return pruned
