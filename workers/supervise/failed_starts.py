"""Failed starts of children: when the next start may be, and what the log says."""

from typing import Final

import structlog

from callboard.workers.supervise.child_process import ChildProcess

_LONGEST_PAUSE: Final = 30.0

log = structlog.get_logger(__name__)


class FailedStarts:
    """Counts the starts that failed in a row. Children that started together count as one."""

    def __init__(self) -> None:
        self.count = 0
        self._next_at = 0.0
        self._told_at = 0.0
        self._told: set[str] = set()

    def add(self, child: ChildProcess, now: float, *, is_final: bool = False) -> None:
        """Count and log a failed start. A fault that several children share is logged once.

        After the first failure the next start is at once, later after a pause that doubles, up to 30 s.
        is_final: there will be no other start.
        """
        if not self.count or child.born_at > self._told_at:
            self._count(now)
        self._tell(child.boot_fault(), child.process.pid, now, solo=child.solo, is_final=is_final)

    def add_refused(self, error: OSError, now: float, *, solo: bool) -> None:
        """Count and log a start for which the system has given no process."""
        self._count(now)
        self._tell(f"no process could be started: {error.strerror}", None, now, solo=solo)

    def _count(self, now: float) -> None:
        self.count += 1
        pause = 0.0 if self.count == 1 else min(2.0 ** (self.count - 2), _LONGEST_PAUSE)
        self._next_at, self._told_at = now + pause, now
        self._told.clear()

    def _tell(self, reason: str, pid: int | None, now: float, *, solo: bool, is_final: bool = False) -> None:
        if reason not in self._told:
            self._told.add(reason)
            log.error(
                "worker.boot_failed",
                reason=reason,
                pid=pid,
                solo=solo,
                failures=self.count,
                restart_in=None if is_final else f"{max(self._next_at - now, 0.0):g}s",
            )

    def clear(self) -> None:
        """Start anew: a child works."""
        self.count, self._next_at = 0, 0.0

    def room(self, booting: int, now: float) -> int | None:
        """Return how many children may be started now besides those that boot; None: as many as are missing.

        After repeated failures, one child tries alone.
        """
        if now < self._next_at:
            return 0
        return max(1 - booting, 0) if self.count > 1 else None
