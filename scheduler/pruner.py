"""The pruner: once a minute it deletes what is older than its retention."""

from datetime import timedelta

import structlog

from callboard.jobs.operate.retention import Retention

log = structlog.get_logger(__name__)


class Pruner:
    """Keeps history as long as the settings say: succeeded jobs for one span, all other finished jobs for
    another.
    """

    def __init__(self, retention: Retention, *, succeeded: timedelta, other: timedelta) -> None:
        self._retention = retention
        self._succeeded = succeeded
        self._other = other

    def round(self) -> int:
        """Delete what is too old; return the number of jobs."""
        pruned = self._retention.prune(succeeded=self._succeeded, other=self._other)
        if pruned.jobs or pruned.keys:
            log.info("jobs.pruned", count=pruned.jobs, keys=pruned.keys)
        return pruned.jobs
