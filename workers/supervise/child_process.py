"""A worker child, for its supervisor: its pulse, its overdue jobs, and how it ended."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Final
from uuid import UUID

import structlog

from callboard.config.settings import Settings
from callboard.jobs.model.basics.clock import Clock
from callboard.jobs.model.basics.ids import new_id
from callboard.workers.board import Board
from callboard.workers.boot_report import LONGEST_BOOT
from callboard.workers.child_plan import ChildPlan
from callboard.workers.child_start import start_child
from callboard.workers.exit_codes import EXIT_CONFIG, EXIT_OK, EXIT_REPLACED, EXIT_UNAVAILABLE
from callboard.workers.supervise.fork_client import ForkClient
from callboard.workers.supervise.worker_fork import WorkerFork

#: A child that ends this soon after it was ready, and ran no job, counts as a failed start. Seconds.
_QUICK_DEATH: Final = 5.0
#: A crash of the interpreter: the same code crashes again.
_CRASHES: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChildDeath:
    """How a child ended.

    suspects: the jobs that may be the cause: those that had begun, and whose ends were not committed.
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
    process: BaseProcess
    born_at: float
    #: It runs suspects one after another, each alone.
    solo: bool = False
    pulse: int = 0
    moved_at: float = 0.0
    #: When its first pulse was seen.
    ready_at: float | None = None
    #: The jobs that ran when the board was read last, and since when they run. Only of a lone child.
    runs: list[UUID] = field(default_factory=list)
    runs_since: float = 0.0
    #: It was ready, and then ran a job or lived for a while: its start has not failed.
    proven: bool = False
    #: Its lease was lost, or it is being stopped. Its lease is not renewed, and its death has no suspects.
    dismissed: bool = False
    #: It was killed because its pulse did not start in time, or because it did not end in time.
    hung: bool = False
    #: The jobs for which it was killed, each with its hard timeout in seconds; 0 for a forced cancel.
    killed_for: Mapping[UUID, float] = field(default_factory=dict)

    @classmethod
    def start(
        cls, settings: Settings, urls: tuple[str, str], server: ForkClient, clock: Clock, *, solo: bool
    ) -> "ChildProcess":
        """Start a child. urls: of Postgres and of Redis. A lone child runs one job at a time."""
        if solo:
            settings = settings.model_copy(update={"threads": 1, "slots": 1, "async_slots": 1})
        kept = settings.slots + max(settings.slots, settings.async_slots)
        board = Board(settings.threads + settings.async_slots, kept)
        plan = ChildPlan(new_id(), settings, *urls, solo=solo)
        process = WorkerFork(server, start_child, (plan, board))
        process.start()
        # The fork server may have taken a while.
        now = clock.monotonic()
        log.info("worker.started", worker_id=str(plan.worker_id), pid=process.pid, solo=solo)
        return cls(plan.worker_id, board, process, now, solo, moved_at=now)

    def look(self, now: float, *, trusted: bool) -> Mapping[UUID, float]:
        """Read the pulse; return the jobs for which the child must be killed now.

        trusted: False when the supervisor itself did not run for a while: then an old pulse proves nothing.
        """
        pulse = self.board.pulse
        if pulse != self.pulse or not trusted:
            self.pulse, self.moved_at = pulse, now
        if pulse and self.ready_at is None:
            self.ready_at = now
        if self.solo and (runs := self.board.started()) != self.runs:
            self.runs, self.runs_since = runs, now
        return {} if self.killed_for else self.board.overdue(now)

    def proves_itself(self, now: float) -> bool:
        """Return whether it has just become clear that the start of this child has not failed."""
        if self.proven or self.ready_at is None:
            return False
        self.proven = bool(now - self.ready_at > _QUICK_DEATH or self.runs or self.board.begun())
        return self.proven

    @property
    def is_booting(self) -> bool:
        """Return whether the child has not been ready yet."""
        return not self.board.pulse

    def has_failed(self, *, stopping: bool) -> bool:
        """Return whether this dead child is a failed start: it ended before it could work.

        The crash of a job is no failed start.
        """
        if self.proven or self.dismissed or self.board.worked or self.board.begun():
            return False
        # A lone child ends when there are no suspects. Any other must not end by itself.
        return self.process.exitcode != EXIT_OK or not (stopping or (self.solo and not self.is_booting))

    @property
    def is_hopeless(self) -> bool:
        """Return whether the next start would fail in the same way: a setting or a module is at fault."""
        code = self.process.exitcode or 0
        if not self.is_booting or code == EXIT_UNAVAILABLE:
            return False
        broken = self.hung or code >= 0 or -code in _CRASHES
        return code == EXIT_CONFIG or (self.board.boot.is_importing and broken)

    def boot_fault(self) -> str:
        """Return why this dead child did not start, in one sentence."""
        report, code = self.board.boot, self.process.exitcode
        if report.fault:
            return report.fault
        if not self.is_booting:
            return f"the process {how_ended(code)} soon after it was ready"
        end = f"was not ready after {LONGEST_BOOT:g} s" if self.hung else how_ended(code)
        place = report.place()
        return f"the process {end}{f' while it {report.step}' if report.step else ''}" + (
            f" ({place})" if place else ""
        )

    def hangs(self, now: float) -> bool:
        """Return whether the first pulse of the child is overdue, or the end that it has announced."""
        late = now - self.born_at > LONGEST_BOOT if self.is_booting else 0 < self.board.leaves_by < now
        return late and not self.hung

    def replacement(self) -> str | None:
        """Return why this child has to be replaced; None if it has not said so.

        The child may have closed its log.
        """
        if not self.board.leaves_by:
            return None
        return f"{self.board.boot.fault}{'; it did not end in time and was killed' if self.hung else ''}"

    def still(self, now: float) -> float:
        """Return for how many seconds the pulse has not changed; 0 while the child starts."""
        return now - self.moved_at if self.board.pulse else 0.0

    def terminate(self) -> None:
        """Tell the child to stop, the second time within a moment."""
        self.board.tell_stop()
        self.process.terminate()

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
        code = self.process.exitcode
        if self.killed_for:
            started = self.board.started()
            overdue = {job: limit for job, limit in self.killed_for.items() if job in started}
            return ChildDeath(self.worker_id, [], overdue, "")
        # Without a stop, exit code 0 is no clean end: a job may call os._exit(0).
        clean = self.dismissed or (code == EXIT_OK and stopping) or code == EXIT_REPLACED
        clean = clean or (self.hung and not self.is_booting)
        return ChildDeath(
            self.worker_id,
            [] if clean else self.board.begun(),
            {},
            f"the process that ran it {how_ended(code)}",
        )


def how_ended(code: int | None) -> str:
    """Return how a process ended, as a verb in the past tense."""
    if code is None or code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = ", as happens when memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by {name}{why}"
