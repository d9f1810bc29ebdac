"""The supervisor: the parent of the worker children. It keeps their leases, replaces the dead, and passes on stops."""

import signal
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from threading import Event
from typing import Final
from uuid import UUID

import structlog

from config.settings import Settings
from jobs.clock import SYSTEM, Clock
from jobs.errors import Unavailable
from jobs.ids import new_id
from jobs.platform import Platform
from workers import child
from workers.board import Board
from workers.child import EXIT_CONFIG, ChildPlan

_LOOK_EVERY: Final = 0.2
_RENEW_EVERY: Final = 5.0
#: A child whose pulse has stood still for this long is not vouched for, and killed once its lease has run out too. Seconds.
_STILL: Final = 10.0
#: A child that lived shorter than this counts as a failed start; after so many in a row the supervisor gives up.
_QUICK_DEATH: Final = 5.0
_MOST_QUICK_DEATHS: Final = 5
#: After the grace period the children have this long for their last words. Seconds.
_KILL_AFTER: Final = 6.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Charge:
    """A child in the supervisor's care."""

    worker_id: UUID
    board: Board
    process: SpawnProcess
    born_at: float
    pulse: int = 0
    moved_at: float = 0.0
    #: The lease was lost, or it is being stopped; it is not renewed and, once dead, not blamed.
    dismissed: bool = False


@dataclass(slots=True)
class Dead:
    """A child that has died and whose jobs have yet to be taken back."""

    worker_id: UUID
    suspects: list[UUID] = field(default_factory=list)


class Supervisor:
    """Runs children until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        redis_url: str,
        platform: Platform,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings
        self._urls = (database_url, redis_url)
        self._platform = platform
        self._clock = clock
        self._charges: list[Charge] = []
        self._dead: list[Dead] = []
        self._asked = Event()
        self._hurry = Event()
        self._quick_deaths = 0
        self._restart_at = 0.0
        self._renew_at = 0.0
        self._looked_at = 0.0
        self._exit_code = 0

    def run(self) -> int:
        """Keep the children alive until SIGTERM or SIGINT; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._asked.wait(_LOOK_EVERY):
            self._bury()
            if self._exit_code:
                break
            self._hire()
            self._keep_leases()
        self._stop()
        return self._exit_code

    def _keep_leases(self) -> None:
        """Renew what is due to be renewed: three times within a lease, and at least every 5 seconds."""
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + min(_RENEW_EVERY, self._settings.lease_ttl.total_seconds() / 3)
            self._renew()

    def _on_signal(self, *_: object) -> None:
        (self._hurry if self._asked.is_set() else self._asked).set()

    def _hire(self) -> None:
        while len(self._charges) < self._settings.processes and self._clock.monotonic() >= self._restart_at:
            board = Board(self._settings.threads + self._settings.async_slots)
            plan = ChildPlan(new_id(), self._settings, *self._urls)
            process = get_context("spawn").Process(
                target=child.main, args=(plan, board), name="callboard-worker"
            )
            process.start()
            now = self._clock.monotonic()
            self._charges.append(Charge(plan.worker_id, board, process, now, moved_at=now))
            log.info("worker.started", worker_id=str(plan.worker_id), pid=process.pid)

    def _bury(self) -> None:
        """Take note of children that have died, and take their jobs back at once."""
        for charge in [one for one in self._charges if not one.process.is_alive()]:
            self._charges.remove(charge)
            code = charge.process.exitcode
            log.log(
                20 if code == 0 else 40,
                "worker.exited",
                worker_id=str(charge.worker_id),
                pid=charge.process.pid,
                code=code,
            )
            suspects = [] if code == 0 or charge.dismissed else charge.board.started()
            self._dead.append(Dead(charge.worker_id, suspects))
            self._judge(charge, code)
        self._rescue()

    def _judge(self, charge: Charge, code: int | None) -> None:
        """Children that die at once, again and again, are a fault that restarting does not mend."""
        now = self._clock.monotonic()
        if code == EXIT_CONFIG:
            self._exit_code = EXIT_CONFIG
            return
        if code == 0 or charge.dismissed or now - charge.born_at > _QUICK_DEATH:
            self._quick_deaths = 0
            return
        if charge.board.pulse == 0:
            self._quick_deaths += 1
            self._restart_at = now + min(2.0 ** (self._quick_deaths - 1), 30.0)
            if self._quick_deaths >= _MOST_QUICK_DEATHS:
                log.error("worker.gave_up", deaths=self._quick_deaths)
                self._exit_code = code if code and code > 0 else 1

    def _rescue(self) -> None:
        try:
            while self._dead:
                self._platform.workers.end(self._dead[0].worker_id, self._dead[0].suspects)
                self._dead.pop(0)
        except Unavailable as error:
            # Tried again with the next look; if this process dies first, the reaper does it.
            log.warning("supervisor.waiting", reason=error.message)

    def _renew(self) -> None:
        now = self._clock.monotonic()
        # After a pause of our own we cannot say who stood still.
        paused, self._looked_at = now - self._looked_at > _STILL, now
        alive = []
        for charge in self._charges:
            pulse = charge.board.pulse
            if pulse != charge.pulse or paused:
                charge.pulse, charge.moved_at = pulse, now
            if pulse and now - charge.moved_at > _STILL + self._settings.lease_ttl.total_seconds():
                # Its jobs are somebody else's by now, and it takes up room that a new child could use.
                log.error("worker.stuck", worker_id=str(charge.worker_id), pid=charge.process.pid)
                charge.process.kill()
            if pulse and not charge.dismissed and now - charge.moved_at < _STILL:
                alive.append(charge)
        if not alive:
            return
        try:
            held = self._platform.workers.renew([charge.worker_id for charge in alive])
        except Unavailable as error:
            log.warning("supervisor.waiting", reason=error.message)
            return
        for charge in alive:
            # One that has been told to stop ends its lease itself.
            if charge.worker_id not in held and not self._asked.is_set():
                # Its jobs are somebody else's by now: nothing that it does counts any more.
                log.error("worker.lease_lost", worker_id=str(charge.worker_id), pid=charge.process.pid)
                charge.dismissed = True
                charge.process.terminate()

    def _stop(self) -> None:
        """Pass the stop on, wait for the grace period, then kill. A second signal shortens the wait."""
        self._terminate()
        deadline = self._clock.monotonic() + self._settings.grace.total_seconds() + _KILL_AFTER
        hurried, pause = False, Event()
        while self._charges and self._clock.monotonic() < deadline:
            if self._hurry.is_set() and not hurried:
                hurried = True
                deadline = min(deadline, self._clock.monotonic() + _KILL_AFTER)
                self._terminate()
            self._keep_leases()
            self._bury()
            pause.wait(_LOOK_EVERY)
        for charge in self._charges:
            log.error("worker.killed", worker_id=str(charge.worker_id), pid=charge.process.pid)
            charge.dismissed = True
            charge.process.kill()
            charge.process.join()
        self._bury()

    def _terminate(self) -> None:
        for charge in self._charges:
            charge.process.terminate()
