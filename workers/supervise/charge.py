"""A child in its supervisor's care: its pulse, what it must be killed for, and what its death says."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from typing import Final
from uuid import UUID

from callboard.workers.board import Board

#: From its start until its first pulse a child has this long: it imports the jobs meanwhile. Seconds.
LONGEST_BOOT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Death:
    """What a child left behind: the jobs that may be the cause, or else those for which it was killed (by hard timeout)."""

    worker_id: UUID
    suspects: list[UUID]
    overdue: Mapping[UUID, float]
    how: str


@dataclass(slots=True)
class Charge:
    """One child."""

    worker_id: UUID
    board: Board
    process: SpawnProcess
    born_at: float
    #: It runs one job, alone, and ends.
    solo: bool = False
    pulse: int = 0
    moved_at: float = 0.0
    #: The lease was lost, or it is being stopped; it is not renewed and, once dead, not blamed.
    dismissed: bool = False
    #: It was killed because it did not get as far as its first pulse.
    hung: bool = False
    #: It has been seen with a job that had begun.
    worked: bool = False
    #: It was killed because of these jobs; and the hard timeout of each in seconds, 0 for a forced cancel.
    condemned: Mapping[UUID, float] = field(default_factory=dict)

    def look(self, now: float, *, trusted: bool) -> Mapping[UUID, float]:
        """Feel the pulse, and return the jobs for which the child must be killed now.

        trusted: else the supervisor itself has been asleep, and cannot say who stood still.
        """
        pulse = self.board.pulse
        if pulse != self.pulse or not trusted:
            self.pulse, self.moved_at = pulse, now
        if self.solo and not self.worked:
            self.worked = bool(self.board.started())
        return {} if self.condemned else self.board.overdue(now)

    def hangs(self, now: float) -> bool:
        """Whether it has been booting for too long."""
        return not self.hung and not self.board.pulse and now - self.born_at > LONGEST_BOOT

    def still(self, now: float) -> float:
        """For how many seconds its pulse has stood still; 0 while it boots."""
        return now - self.moved_at if self.board.pulse else 0.0

    def condemn(self, overdue: Mapping[UUID, float]) -> None:
        """Kill it, because of these jobs alone."""
        self.condemned = overdue
        self.process.kill()

    def death(self, *, asked: bool) -> Death:
        """What to make of its end. asked: it had been told to stop, so that ending with code 0 is no wonder."""
        standing, code = self.board.started(), self.process.exitcode
        if self.condemned:
            blamed = {job: limit for job, limit in self.condemned.items() if job in standing}
            return Death(self.worker_id, [], blamed, "")
        # A job that calls os._exit(0) ends its process just as well.
        innocent = self.dismissed or (code == 0 and asked)
        return Death(self.worker_id, [] if innocent else standing, {}, _how(code))


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process that ran it exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = ", as happens when memory runs out" if code == -signal.SIGKILL else ""
    return f"the process that ran it was killed by {name}{why}"
