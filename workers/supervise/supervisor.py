"""The supervisor: the parent of the worker children. It keeps their leases, replaces the dead, and passes on stops."""

import signal
from collections.abc import Mapping
from multiprocessing import get_context
from threading import Event
from typing import Final
from uuid import UUID

import structlog

from callboard.config.settings import Settings
from callboard.jobs.errors import Unavailable
from callboard.jobs.model.clock import SYSTEM, Clock
from callboard.jobs.model.ids import new_id
from callboard.jobs.platform import Platform
from callboard.workers import child
from callboard.workers.board import Board
from callboard.workers.child import EXIT_CONFIG, ChildPlan
from callboard.workers.supervise.charge import Charge, Death

_LOOK_EVERY: Final = 0.2
_RENEW_EVERY: Final = 5.0
#: A child whose pulse has stood still for this long is not vouched for, and killed once its lease has run out too. Seconds.
_STILL: Final = 10.0
#: A child that lived shorter than this counts as a failed start; after so many in a row the supervisor gives up.
_QUICK_DEATH: Final = 5.0
_MOST_QUICK_DEATHS: Final = 5
#: After the grace period the children have this long for their last words. Seconds.
_KILL_AFTER: Final = 6.0
#: How often Postgres is asked for jobs that are to run alone, and for forced cancellations that a child cannot hear. Seconds.
_ASK_EVERY: Final = 2.0
#: Children for one job each that run at once, beside the others.
_SOLO_AT_ONCE: Final = 2
#: Until the next one, when one has failed to start. Seconds.
_SOLO_PAUSE: Final = 30.0
#: A child whose pulse has stood still for this long may not hear that a cancellation is forced. Seconds.
_DEAF: Final = 3.0

log = structlog.get_logger(__name__)


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
        self._dead: list[Death] = []
        self._asked = Event()
        self._hurry = Event()
        self._quick_deaths = 0
        self._restart_at = 0.0
        self._renew_at = 0.0
        self._looked_at = 0.0
        self._ask_at = 0.0
        self._solo_at = 0.0
        self._exit_code = 0

    def run(self) -> int:
        """Keep the children alive until SIGTERM or SIGINT; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._asked.wait(_LOOK_EVERY):
            self._look()
            self._bury()
            if self._exit_code:
                break
            self._hire()
            self._keep_leases()
            self._ask()
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
        kept = sum(not charge.solo for charge in self._charges)
        if self._clock.monotonic() >= self._restart_at:
            for _ in range(self._settings.processes - kept):
                self._start(self._settings)

    def _start(self, settings: Settings, *, solo: bool = False) -> None:
        board = Board(settings.threads + settings.async_slots)
        plan = ChildPlan(new_id(), settings, *self._urls, solo=solo)
        process = get_context("spawn").Process(target=child.main, args=(plan, board), name="callboard-worker")
        process.start()
        now = self._clock.monotonic()
        self._charges.append(Charge(plan.worker_id, board, process, now, solo, moved_at=now))
        log.info("worker.started", worker_id=str(plan.worker_id), pid=process.pid, solo=solo)

    def _look(self) -> None:
        """Feel every pulse, and kill those in which a job runs beyond its hard deadline, or that hang while they boot."""
        now = self._clock.monotonic()
        trusted, self._looked_at = now - self._looked_at < _STILL, now
        for charge in self._charges:
            overdue = charge.look(now, trusted=trusted)
            if overdue:
                self._condemn(charge, overdue)
            elif charge.hangs(now):
                log.error("worker.boot_hung", worker_id=str(charge.worker_id), pid=charge.process.pid)
                charge.hung = True
                charge.process.kill()

    def _condemn(self, charge: Charge, overdue: Mapping[UUID, float]) -> None:
        for job, limit in overdue.items():
            event = "job.hard_timeout" if limit else "job.cancel_forced"
            log.error(
                event,
                job_id=str(job),
                limit=limit or None,
                worker_id=str(charge.worker_id),
                pid=charge.process.pid,
            )
        charge.condemn(overdue)

    def _ask(self) -> None:
        """Ask Postgres what children cannot: which jobs wait to be run alone, and what a deaf child should hear."""
        now = self._clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + _ASK_EVERY
        try:
            self._hire_solo(now)
            self._hear_for_the_deaf(now)
        except Unavailable as error:
            log.warning("supervisor.waiting", reason=error.message)

    def _hire_solo(self, now: float) -> None:
        """For each job that is to run alone a fresh child, few at a time."""
        solo = [charge for charge in self._charges if charge.solo]
        known = [charge.worker_id for charge in self._charges if charge.board.pulse]
        if len(solo) >= _SOLO_AT_ONCE or not known or now < self._solo_at:
            return
        waiting = self._platform.workers.solo_waiting(known, self._settings.queues, _SOLO_AT_ONCE)
        on_their_way = sum(not charge.worked for charge in solo)
        settings = self._settings.model_copy(update={"threads": 1, "slots": 1, "async_slots": 1})
        for _ in range(min(_SOLO_AT_ONCE - len(solo), waiting - on_their_way)):
            self._start(settings, solo=True)

    def _hear_for_the_deaf(self, now: float) -> None:
        """A job in a C call that keeps the interpreter keeps its process from hearing of a forced cancellation."""
        for charge in self._charges:
            if charge.still(now) > _DEAF and not charge.condemned and (begun := charge.board.started()):
                forced = self._platform.workers.forced([charge.worker_id]).intersection(begun)
                if forced:
                    self._condemn(charge, dict.fromkeys(forced, 0.0))

    def _bury(self) -> None:
        """Take note of children that have died, and take their jobs back at once."""
        for charge in [one for one in self._charges if not one.process.is_alive()]:
            self._charges.remove(charge)
            code, death = charge.process.exitcode, charge.death(asked=self._asked.is_set())
            log.log(
                20 if code == 0 and not death.suspects else 40,
                "worker.exited",
                worker_id=str(charge.worker_id),
                pid=charge.process.pid,
                code=code,
            )
            self._dead.append(death)
            booted = bool(charge.board.pulse or charge.board.started())
            self._judge(charge, code, booted=booted)
        self._rescue()

    def _judge(self, charge: Charge, code: int | None, *, booted: bool) -> None:
        """Children that die at once, again and again, are a fault that restarting does not mend; a job's crash is none."""
        now = self._clock.monotonic()
        if charge.solo:
            if charge.worked or charge.board.started():
                self._ask_at = now
            elif code != 0:
                self._solo_at = now + _SOLO_PAUSE
            return
        if code == EXIT_CONFIG:
            self._exit_code = EXIT_CONFIG
            return
        quick = charge.hung or now - charge.born_at <= _QUICK_DEATH
        if code == 0 or charge.dismissed or not quick:
            self._quick_deaths = 0
            return
        if not booted:
            self._quick_deaths += 1
            self._restart_at = now + min(2.0 ** (self._quick_deaths - 1), 30.0)
            if self._quick_deaths >= _MOST_QUICK_DEATHS:
                log.error("worker.gave_up", deaths=self._quick_deaths)
                self._exit_code = code if code and code > 0 else 1

    def _rescue(self) -> None:
        try:
            while self._dead:
                dead = self._dead[0]
                self._platform.workers.end(dead.worker_id, dead.suspects, how=dead.how, overdue=dead.overdue)
                self._dead.pop(0)
                if dead.suspects:
                    self._ask_at = self._clock.monotonic()
        except Unavailable as error:
            # Tried again with the next look; if this process dies first, the reaper does it.
            log.warning("supervisor.waiting", reason=error.message)

    def _renew(self) -> None:
        now = self._clock.monotonic()
        alive = []
        for charge in self._charges:
            if charge.still(now) > _STILL + self._settings.lease_ttl.total_seconds():
                # Its jobs are somebody else's by now, and it takes up room that a new child could use.
                log.error("worker.stuck", worker_id=str(charge.worker_id), pid=charge.process.pid)
                charge.process.kill()
            if charge.board.pulse and not charge.dismissed and charge.still(now) < _STILL:
                alive.append(charge)
        if not alive:
            return
        try:
            held = self._platform.workers.renew([charge.worker_id for charge in alive])
        except Unavailable as error:
            log.warning("supervisor.waiting", reason=error.message)
            return
        for charge in alive:
            # One that has been told to stop, or has done the one job that it was for, ends its lease itself.
            ended = self._asked.is_set() or (charge.solo and not charge.board.started())
            if charge.worker_id not in held and not ended:
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
            self._look()
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
