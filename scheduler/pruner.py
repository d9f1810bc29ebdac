"""The pruner: once a minute it deletes rows that are older than their retention."""

from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import Counter

from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.retention.retention import Retention, RetentionSpans

PRUNED = Counter("callboard_pruned_total", "Rows deleted after their retention.", ["kind"])

#: After a jump of the database's clock ahead by more than the first, nothing is deleted for the second time.
_LARGE_JUMP: Final = timedelta(minutes=1)
_PAUSE: Final = timedelta(hours=1)

log = structlog.get_logger(__name__)


class Pruner:
    """Deletes rows of every kind that grows, after their retention."""

    def __init__(self, retention: Retention, spans: RetentionSpans, clock: Clock = SYSTEM) -> None:
        self._retention = retention
        self._spans = spans
        self._clock = clock
        self._not_before = float("-inf")

    def on_jump(self, ahead: timedelta) -> None:
        """Delete nothing for an hour: by a clock that is wrong, all rows may be too old."""
        if ahead > _LARGE_JUMP:
            self._not_before = self._clock.monotonic() + _PAUSE.total_seconds()
            log.warning("pruner.paused", minutes=_PAUSE.total_seconds() / 60)

    def round(self) -> int:
        """Delete old rows; return how many."""
        if self._clock.monotonic() < self._not_before:
            return 0
        pruned = self._retention.prune(self._spans)
        counts = {kind: count for kind, count in pruned._asdict().items() if count}
        for kind, count in counts.items():
            PRUNED.labels(kind).inc(count)
        if counts:
            log.info("rows.pruned", **counts)
        return sum(counts.values())
