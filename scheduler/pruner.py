"""The pruner: removes finished jobs that are older than their retention, in batches that block nobody."""

from datetime import timedelta
from typing import Final

import structlog

from jobs.database import Database
from jobs.repositories import job_moves
from jobs.states import TERMINAL, JobState

_BATCH: Final = 1_000
#: Batches of one round; the next round goes on.
_MOST_BATCHES: Final = 100

log = structlog.get_logger(__name__)


class Pruner:
    """Keeps history as long as the settings say: what succeeded for one span, all else for another."""

    def __init__(self, database: Database, *, succeeded: timedelta, other: timedelta) -> None:
        self._database = database
        self._spans = (
            (frozenset({JobState.SUCCEEDED}), succeeded),
            (TERMINAL - {JobState.SUCCEEDED}, other),
        )

    def round(self) -> int:
        """Remove what is too old; returns how many."""
        pruned = sum(self._prune(states, age) for states, age in self._spans)
        if pruned:
            log.info("jobs.pruned", count=pruned)
        return pruned

    def _prune(self, states: frozenset[JobState], age: timedelta) -> int:
        pruned = 0
        for _ in range(_MOST_BATCHES):
            with self._database.transaction() as connection:
                removed = job_moves.prune(connection, states, age, _BATCH)
            pruned += removed
            if removed < _BATCH:
                break
        return pruned
