"""The supervisor: the parent process of the worker children.

It renews their leases and replaces dead children.
"""

import signal
from threading import Event
from typing import Final

import structlog

from callboard.config.settings import Settings
from callboard.jobs.errors import SchemaMismatch, Unavailable
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.outage import Outage
from callboard.jobs.platform import Platform
from callboard.workers.exit_codes import EXIT_CONFIG
from callboard.workers.supervise import lone_children
from callboard.workers.supervise.child_process import ChildDeath, ChildProcess
from callboard.workers.supervise.failed_starts import FailedStarts
from callboard.workers.supervise.fork_client import ForkClient
from callboard.workers.supervise.interpreter_holds import InterpreterHolds
from callboard.workers.supervise.lease_renewals import STILL, LeaseRenewals

_LOOK_EVERY: Final = 0.2
#: After this many failed starts in a row the supervisor gives up, unless a child has been ready before.
_MOST_FAILED_STARTS: Final = 6
#: After the grace period, the children have this time to write their last data. Then they are killed.
#: Seconds.
_KILL_AFTER: Final = 6.0
#: While it stops, a statement waits at most this long. Seconds.
_STOP_ANSWER: Final = 2.0
#: How often the supervisor reads jobs that must run alone, forced cancels that a child cannot handle, and
#: whether tables that did not fit do so now. Seconds.
_ASK_EVERY: Final = 2.0
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
        server: ForkClient,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings
        self._urls = (database_url, redis_url)
        self._platform = platform
        self._server = server
        server.meanwhile = self._keep_children
        self._holds = InterpreterHolds(platform.workers)
        self._clock = clock
        self._children: list[ChildProcess] = []
        self._dead: list[ChildDeath] = []
        self._stopping = Event()
        self._hurrying = Event()
        #: The failed starts of ordinary children, and of lone ones.
        self._failed = FailedStarts()
        self._lone_failed = FailedStarts()
        #: Whether a child has been ready. Then its configuration works, and the supervisor does not give up.
        self._ever_ready = False
        self._tables_at = 0.0
        self._looked_at = 0.0
        self._ask_at = 0.0
        self._exit_code = 0
        self._outages = {
            task: Outage(log, "supervisor.waiting", "supervisor.recovered", clock=clock, task=task)
            for task in ("ask", "rescue", "renew")
        }
        self._leases = LeaseRenewals(platform.workers, settings.lease_ttl, self._outages["renew"], clock)

    def run(self) -> int:
        """Keep the children running until SIGTERM or SIGINT; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._keep_running()
        finally:
            # Also after an error: the interpreter would wait for the children, and nobody renew their leases.
            self._stop()
        return self._exit_code

    def _keep_running(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY):
            self._look()
            self._remove_dead()
            if self._exit_code:
                break
            self._start_missing()
            self._leases.round(self._children, stopping=self._stopping.is_set())
            self._ask_postgres()

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
        ordinary = [child for child in self._children if not child.solo]
        staying, most = sum(not child.board.leaves_by for child in ordinary), self._settings.processes
        # A child that must be replaced may have long jobs to finish: another takes its place meanwhile.
        missing = min(most - staying, 2 * most - len(ordinary))
        now = self._clock.monotonic()
        room = self._failed.room(sum(child.is_booting for child in ordinary), now)
        number = missing if room is None else min(missing, room)
        if number > 0 and now >= self._tables_at and self._tables_fit():
            self._start(number, solo=False)

    def _keep_children(self) -> None:
        """Do what must not wait while the fork server is waited for."""
        self._look()
        self._leases.round(self._children, stopping=self._stopping.is_set())

    def _tables_fit(self) -> bool:
        """Return whether children can start. Without an answer they start, and report the outage."""
        try:
            self._platform.database.verify_tables()
        except Unavailable as error:
            self._tables_at = self._clock.monotonic() + _ASK_EVERY
            return not isinstance(error, SchemaMismatch)
        return True

    def _start(self, number: int, *, solo: bool) -> None:
        try:
            for _ in range(number):
                child = ChildProcess.start(self._settings, self._urls, self._server, self._clock, solo=solo)
                self._children.append(child)
        except OSError as error:
            # A limit of processes, of open files, or of memory. The other children work on.
            failed = self._lone_failed if solo else self._failed
            failed.add_refused(error, self._clock.monotonic(), solo=solo)
            if not solo and not self._ever_ready:
                self._give_up(1, "no process can be started")

    def _look(self) -> None:
        """Read every pulse.

        Kill children with a job beyond its hard deadline, and children that hang at their start.
        """
        now = self._clock.monotonic()
        trusted, self._looked_at = now - self._looked_at < STILL, now
        for child in self._children:
            overdue = child.look(now, trusted=trusted)
            self._ever_ready = self._ever_ready or child.ready_at is not None
            if child.proves_itself(now):
                (self._lone_failed if child.solo else self._failed).clear()
            if overdue:
                child.kill_for(overdue)
            elif child.hangs(now):
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
        with self._outages["ask"]:
            self._start_solo(now)
            self._force_cancels(now)

    def _start_solo(self, now: float) -> None:
        """Start lone children while jobs wait that must run alone."""
        known = [child.worker_id for child in self._children if not child.is_booting]
        room = self._lone_failed.room(sum(child.is_booting for child in self._children if child.solo), now)
        if not known or room == 0:
            return
        waiting = self._platform.workers.solo_waiting(known, self._settings.queues, lone_children.COUNTED)
        number = lone_children.missing(self._children, waiting, now)
        self._start(number if room is None else min(number, room), solo=True)

    def _force_cancels(self, now: float) -> None:
        """Kill children that cannot notice a forced cancel because a job's C call blocks them."""
        for child in self._children:
            if child.still(now) > _UNRESPONSIVE and not child.killed_for and (begun := child.board.started()):
                forced = self._platform.workers.forced([child.worker_id]).intersection(begun)
                if forced:
                    child.kill_for(dict.fromkeys(forced, 0.0))

    def _remove_dead(self) -> None:
        """Remove children that have ended, and take their jobs back."""
        now, stopping = self._clock.monotonic(), self._stopping.is_set() or bool(self._exit_code)
        for child in [each for each in self._children if not each.process.is_alive()]:
            self._children.remove(child)
            code, death = child.process.exitcode, child.death(stopping=stopping)
            failed = child.has_failed(stopping=stopping)
            expected = (code == 0 and (stopping or child.solo)) or child.dismissed
            log.log(
                20 if expected and not death.suspects and not failed else 40,
                "worker.exited",
                worker_id=str(child.worker_id),
                pid=child.process.pid,
                code=code,
                reason=child.replacement(),
            )
            self._dead.append(death)
            if failed:
                self._judge(child, now)
            if child.solo:
                # Suspects may wait.
                self._ask_at = now
        self._rescue()

    def _judge(self, child: ChildProcess, now: float) -> None:
        """Count a failed start. Give up if no child can ever start."""
        if child.solo:
            self._lone_failed.add(child, now)
            return
        if self._ever_ready or not child.is_booting:
            self._failed.add(child, now)
            return
        hopeless = child.is_hopeless
        if hopeless:
            self._exit_code = EXIT_CONFIG
        self._failed.add(child, now, is_final=hopeless)
        self._give_up(child.process.exitcode or 0, "processes die before they start")

    def _give_up(self, code: int, reason: str) -> None:
        """End the worker with this exit code after many failed starts."""
        if not self._exit_code and self._failed.count >= _MOST_FAILED_STARTS:
            log.error("worker.gave_up", failures=self._failed.count, reason=reason)
            self._exit_code = code if code > 0 else 1

    def _rescue(self) -> None:
        # After an outage the next round tries again. If this process dies before, the reaper does it.
        with self._outages["rescue"]:
            while self._dead:
                dead = self._dead[0]
                self._platform.workers.end(dead.worker_id, dead.suspects, how=dead.how, overdue=dead.overdue)
                self._dead.pop(0)
                if dead.suspects:
                    self._ask_at = self._clock.monotonic()

    def _stop(self) -> None:
        """Stop the children, wait for the grace period, then kill them. A second signal shortens the wait."""
        for child in self._children:
            if child.is_booting:
                # It has no job, and the import of the jobs may take long.
                child.dismissed = True
                child.process.kill()
        self._terminate()
        deadline = self._clock.monotonic() + self._stop_time()
        hurried, pause = False, Event()
        while self._children and self._clock.monotonic() < deadline:
            if self._hurrying.is_set() and not hurried:
                hurried = True
                deadline = min(deadline, self._clock.monotonic() + _KILL_AFTER)
                self._terminate()
            self._look()
            self._leases.round(self._children, stopping=True)
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
            child.terminate()
