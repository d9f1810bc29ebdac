"""The pruner: once a minute it deletes rows that are older than their retention."""

from datetime import timedelta
from typing import Final

import structlog

from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.operate.retention import Retention

#: After a jump of the database's clock ahead by more than the first, nothing is deleted for the second time.
_LARGE_JUMP: Final = timedelta(minutes=1)
_PAUSE: Final = timedelta(hours=1)

log = structlog.get_logger(__name__)


class Pruner:
    """Deletes finished jobs after their retention: one for succeeded jobs, one for all others."""

    def __init__(
        self, retention: Retention, *, succeeded: timedelta, other: timedelta, clock: Clock = SYSTEM
    ) -> None:
        self._retention = retention
        self._clock = clock
        self._succeeded = succeeded
        self._other = other
        self._not_before = float("-inf")

    def on_jump(self, ahead: timedelta) -> None:
        """Delete nothing for an hour: by a clock that is wrong, all rows may be too old."""
        if ahead > _LARGE_JUMP:
            self._not_before = self._clock.monotonic() + _PAUSE.total_seconds()
            log.warning("pruner.paused", minutes=_PAUSE.total_seconds() / 60)

    def round(self) -> int:
        """Delete old rows; return the number of deleted jobs."""
        if self._clock.monotonic() < self._not_before:
            return 0
        pruned = self._retention.prune(succeeded=self._succeeded, other=self._other)
        if pruned.jobs or pruned.keys:
            log.info("jobs.pruned", count=pruned.jobs, keys=pruned.keys)
        return pruned.jobs
