"""A worker child, for its supervisor: its pulse, its overdue jobs, and how it ended."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from typing import Final
from uuid import UUID

import structlog

from callboard.workers.board import Board

#: A child must show its first pulse within this time after its start. It imports the jobs meanwhile. Seconds.
LONGEST_BOOT: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChildDeath:
    """How a child ended.

    suspects: the jobs that may be the cause.
    overdue:  the jobs because of which it was killed, each with its hard timeout in seconds; 0 for a forced
              cancel.
    how:      how it died. The text goes into the errors of the job that caused it.
    """

    worker_id: UUID
    suspects: list[UUID]
    overdue: Mapping[UUID, float]
    how: str


@dataclass(slots=True)
class ChildProcess:
    """One child and what the supervisor knows about it."""

    worker_id: UUID
    board: Board
    process: SpawnProcess
    born_at: float
    #: It runs one job alone, and ends.
    solo: bool = False
    pulse: int = 0
    moved_at: float = 0.0
    #: Its lease was lost, or it is being stopped. Its lease is not renewed, and its death has no suspects.
    dismissed: bool = False
    #: It was killed because its pulse did not start in time.
    hung: bool = False
    #: The supervisor has seen one of its jobs run.
    worked: bool = False
    #: The jobs for which it was killed, each with its hard timeout in seconds; 0 for a forced cancel.
    killed_for: Mapping[UUID, float] = field(default_factory=dict)

    def look(self, now: float, *, trusted: bool) -> Mapping[UUID, float]:
        """Read the pulse; return the jobs for which the child must be killed now.

        trusted: False when the supervisor itself did not run for a while: then an old pulse proves nothing.
        """
        pulse = self.board.pulse
        if pulse != self.pulse or not trusted:
            self.pulse, self.moved_at = pulse, now
        if self.solo and not self.worked:
            self.worked = bool(self.board.started())
        return {} if self.killed_for else self.board.overdue(now)

    def hangs(self, now: float) -> bool:
        """Return whether the first pulse of the child is overdue."""
        return not self.hung and not self.board.pulse and now - self.born_at > LONGEST_BOOT

    def still(self, now: float) -> float:
        """Return for how many seconds the pulse has not changed; 0 while the child starts."""
        return now - self.moved_at if self.board.pulse else 0.0

    def kill_for(self, overdue: Mapping[UUID, float]) -> None:
        """Kill the child because of these jobs. No other job is blamed."""
        for job, limit in overdue.items():
            log.error(
                "job.hard_timeout" if limit else "job.cancel_forced",
                job_id=str(job),
                limit=limit or None,
                worker_id=str(self.worker_id),
                pid=self.process.pid,
            )
        self.killed_for = overdue
        self.process.kill()

    def death(self, *, stopping: bool) -> ChildDeath:
        """Return how the child ended. stopping: a stop was requested, so exit code 0 is a clean end."""
        started, code = self.board.started(), self.process.exitcode
        if self.killed_for:
            overdue = {job: limit for job, limit in self.killed_for.items() if job in started}
            return ChildDeath(self.worker_id, [], overdue, "")
        # Without a stop, exit code 0 is no clean end: a job may call os._exit(0).
        clean = self.dismissed or (code == 0 and stopping)
        return ChildDeath(self.worker_id, [] if clean else started, {}, _how(code))


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process that ran it exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = ", as happens when memory runs out" if code == -signal.SIGKILL else ""
    return f"the process that ran it was killed by {name}{why}"
