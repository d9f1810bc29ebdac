"""The pruner: once a minute it deletes rows that are older than their retention."""

from datetime import timedelta

import structlog

from callboard.jobs.operate.retention import Retention

log = structlog.get_logger(__name__)


class Pruner:
    """Deletes finished jobs after their retention: one for succeeded jobs, one for all others."""

    def __init__(self, retention: Retention, *, succeeded: timedelta, other: timedelta) -> None:
        self._retention = retention
        self._succeeded = succeeded
        self._other = other

    def round(self) -> int:
        """Delete old rows; return the number of deleted jobs."""
        pruned = self._retention.prune(succeeded=self._succeeded, other=self._other)
        if pruned.jobs or pruned.keys:
            log.info("jobs.pruned", count=pruned.jobs, keys=pruned.keys)
        return pruned.jobs
