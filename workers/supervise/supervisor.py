"""The supervisor: the parent process of the worker children.

It renews their leases and replaces dead children.
"""

import signal
from multiprocessing import get_context
from threading import Event
from typing import Final

import structlog

from callboard.config.settings import Settings
from callboard.jobs.errors import SchemaMismatch, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.platform import Platform
from callboard.workers.board import Board
from callboard.workers.child import EXIT_CONFIG, ChildPlan
from callboard.workers.child import main as run_child
from callboard.workers.supervise.child_process import ChildDeath, ChildProcess
from callboard.workers.supervise.interpreter_holds import InterpreterHolds

_LOOK_EVERY: Final = 0.2
_RENEW_EVERY: Final = 5.0
#: The lease of a child is not renewed while its pulse is older than this. When the lease has run out too, the
#: child is killed. Seconds.
_STILL: Final = 10.0
#: A child that ends within this time counts as a failed start. After this many in a row the supervisor gives
#: up. Seconds.
_QUICK_DEATH: Final = 5.0
_MOST_QUICK_DEATHS: Final = 5
#: After the grace period, the children have this time to write their last data. Then they are killed.
#: Seconds.
_KILL_AFTER: Final = 6.0
#: While it stops, a statement waits at most this long. Seconds.
_STOP_ANSWER: Final = 2.0
#: How often the supervisor reads jobs that must run alone, forced cancels that a child cannot handle, and
#: whether tables that did not fit do so now. Seconds.
_ASK_EVERY: Final = 2.0
#: This many children that run one job alone may exist beside the others.
_SOLO_AT_ONCE: Final = 2
#: The pause after such a child failed to start. Seconds.
_SOLO_PAUSE: Final = 30.0
#: A child whose pulse is older than this may not notice a forced cancel. Seconds.
_UNRESPONSIVE: Final = 3.0

log = structlog.get_logger(__name__)


class Supervisor:
    """Runs children until SIGTERM or SIGINT."""

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
        self._holds = InterpreterHolds(platform.workers)
        self._clock = clock
        self._children: list[ChildProcess] = []
        self._dead: list[ChildDeath] = []
        self._stopping = Event()
        self._hurrying = Event()
        self._quick_deaths = 0
        self._restart_at = 0.0
        self._renew_at = 0.0
        self._looked_at = 0.0
        self._ask_at = 0.0
        self._solo_at = 0.0
        self._exit_code = 0

    def run(self) -> int:
        """Keep the children running until SIGTERM or SIGINT; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._stopping.wait(_LOOK_EVERY):
            self._look()
            self._remove_dead()
            if self._exit_code:
                break
            self._start_missing()
            self._keep_leases()
            self._ask_postgres()
        self._stop()
        return self._exit_code

    def _keep_leases(self) -> None:
        """Renew the leases if it is time: after a third of the lease or 5 seconds, whichever is shorter."""
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + min(_RENEW_EVERY, self._settings.lease_ttl.total_seconds() / 3)
            self._renew()

    def _on_signal(self, *_: object) -> None:
        if self._stopping.is_set():
            self._hurrying.set()
        else:
            self._stopping.set()
            # Here, because the main thread may wait for Postgres.
            self._platform.database.hurry(_STOP_ANSWER, self._stop_time() + 1)

    def _stop_time(self) -> float:
        """Return after how many seconds children are killed that have not stopped."""
        return self._settings.grace.total_seconds() + _KILL_AFTER

    def _start_missing(self) -> None:
        missing = self._settings.processes - sum(not child.solo for child in self._children)
        if missing > 0 and self._clock.monotonic() >= self._restart_at and self._tables_fit():
            for _ in range(missing):
                self._start(self._settings)

    def _tables_fit(self) -> bool:
        """Return whether children can start. Without an answer they start, and report the outage."""
        try:
            self._platform.database.verify_tables()
        except Unavailable as error:
            self._restart_at = self._clock.monotonic() + _ASK_EVERY
            return not isinstance(error, SchemaMismatch)
        return True

    def _start(self, settings: Settings, *, solo: bool = False) -> None:
        board = Board(settings.threads + settings.async_slots)
        plan = ChildPlan(new_id(), settings, *self._urls, solo=solo)
        process = get_context("spawn").Process(target=run_child, args=(plan, board), name="callboard-worker")
        process.start()
        now = self._clock.monotonic()
        self._children.append(ChildProcess(plan.worker_id, board, process, now, solo, moved_at=now))
        log.info("worker.started", worker_id=str(plan.worker_id), pid=process.pid, solo=solo)

    def _look(self) -> None:
        """Read every pulse.

        Kill children with a job beyond its hard deadline, and children that hang at their start.
        """
        now = self._clock.monotonic()
        trusted, self._looked_at = now - self._looked_at < _STILL, now
        for child in self._children:
            overdue = child.look(now, trusted=trusted)
            if overdue:
                child.kill_for(overdue)
            elif child.hangs(now):
                log.error("worker.boot_hung", worker_id=str(child.worker_id), pid=child.process.pid)
                child.hung = True
                child.process.kill()

    def _ask_postgres(self) -> None:
        """Ask Postgres for jobs that must run alone, and for forced cancels of unresponsive children."""
        now = self._clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + _ASK_EVERY
        for child in self._children:
            self._holds.look(child.worker_id, child.still(now), child.board.started())
        try:
            self._start_solo(now)
            self._force_cancels(now)
        except Unavailable as error:
            log.warning("supervisor.waiting", reason=error.message)

    def _start_solo(self, now: float) -> None:
        """Start a new child for each job that must run alone, few at a time."""
        solo = [child for child in self._children if child.solo]
        known = [child.worker_id for child in self._children if child.board.pulse]
        if len(solo) >= _SOLO_AT_ONCE or not known or now < self._solo_at:
            return
        waiting = self._platform.workers.solo_waiting(known, self._settings.queues, _SOLO_AT_ONCE)
        starting = sum(not child.worked for child in solo)
        settings = self._settings.model_copy(update={"threads": 1, "slots": 1, "async_slots": 1})
        for _ in range(min(_SOLO_AT_ONCE - len(solo), waiting - starting)):
            self._start(settings, solo=True)

    def _force_cancels(self, now: float) -> None:
        """Kill children that cannot notice a forced cancel because a job's C call blocks them."""
        for child in self._children:
            if child.still(now) > _UNRESPONSIVE and not child.killed_for and (begun := child.board.started()):
                forced = self._platform.workers.forced([child.worker_id]).intersection(begun)
                if forced:
                    child.kill_for(dict.fromkeys(forced, 0.0))

    def _remove_dead(self) -> None:
        """Remove children that have ended, and take their jobs back."""
        for child in [each for each in self._children if not each.process.is_alive()]:
            self._children.remove(child)
            code, death = child.process.exitcode, child.death(stopping=self._stopping.is_set())
            log.log(
                20 if code == 0 and not death.suspects else 40,
                "worker.exited",
                worker_id=str(child.worker_id),
                pid=child.process.pid,
                code=code,
            )
            self._dead.append(death)
            booted = bool(child.board.pulse or child.board.started())
            self._judge(child, code, booted=booted)
        self._rescue()

    def _judge(self, child: ChildProcess, code: int | None, *, booted: bool) -> None:
        """Count failed starts. After several in a row the supervisor gives up.

        The crash of a job is not one of them.
        """
        now = self._clock.monotonic()
        if child.solo:
            if child.worked or child.board.started():
                self._ask_at = now
            elif code != 0:
                self._solo_at = now + _SOLO_PAUSE
            return
        if code == EXIT_CONFIG:
            self._exit_code = EXIT_CONFIG
            return
        quick = child.hung or now - child.born_at <= _QUICK_DEATH
        if code == 0 or child.dismissed or not quick:
            self._quick_deaths = 0
            return
        if not booted:
            self._quick_deaths += 1
            self._restart_at = now + min(2.0 ** (self._quick_deaths - 1), 30.0)
            if self._quick_deaths >= _MOST_QUICK_DEATHS:
                log.error(
                    "worker.gave_up", deaths=self._quick_deaths, reason="processes die before they start"
                )
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
            # The next round tries again. If this process dies before, the reaper does it.
            log.warning("supervisor.waiting", reason=error.message)

    def _renew(self) -> None:
        now = self._clock.monotonic()
        alive = []
        for child in self._children:
            if child.still(now) > _STILL + self._settings.lease_ttl.total_seconds():
                # Its jobs have been given to other workers, and a new child needs the room.
                log.error("worker.stuck", worker_id=str(child.worker_id), pid=child.process.pid)
                child.process.kill()
            if child.board.pulse and not child.dismissed and child.still(now) < _STILL:
                alive.append(child)
        if not alive:
            return
        try:
            held = self._platform.workers.renew([child.worker_id for child in alive])
        except Unavailable as error:
            log.warning("supervisor.waiting", reason=error.message)
            return
        for child in alive:
            # A child that was asked to stop, or has run its one job, ends its lease itself.
            ended = self._stopping.is_set() or (child.solo and not child.board.started())
            if child.worker_id not in held and not ended:
                # Its jobs have been given to other workers: its writes are refused.
                log.error("worker.lease_lost", worker_id=str(child.worker_id), pid=child.process.pid)
                child.dismissed = True
                child.process.terminate()

    def _stop(self) -> None:
        """Stop the children, wait for the grace period, then kill them. A second signal shortens the wait."""
        self._terminate()
        deadline = self._clock.monotonic() + self._stop_time()
        hurried, pause = False, Event()
        while self._children and self._clock.monotonic() < deadline:
            if self._hurrying.is_set() and not hurried:
                hurried = True
                deadline = min(deadline, self._clock.monotonic() + _KILL_AFTER)
                self._terminate()
            self._look()
            self._keep_leases()
            self._remove_dead()
            pause.wait(_LOOK_EVERY)
        for child in self._children:
            log.error(
                "worker.killed",
                worker_id=str(child.worker_id),
                pid=child.process.pid,
                reason="it did not stop within the grace period",
            )
            child.dismissed = True
            child.process.kill()
            child.process.join()
        self._remove_dead()

    def _terminate(self) -> None:
        for child in self._children:
            child.process.terminate()
