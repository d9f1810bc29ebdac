"""A worker child: one process that runs jobs, from its start to a clean end."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Final

import structlog

from callboard.config import garbage
from callboard.config.last_resort import EXIT_OVERDUE, end_at_latest
from callboard.config.log_writer import Background
from callboard.config.logging import configure_for_jobs
from callboard.config.settings import sqlalchemy_url
from callboard.jobs.attempts.context import job_log_fields
from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.dramatiq.import_faults import described
from callboard.jobs.errors import CallboardError, Unavailable
from callboard.jobs.metrics import LOG_LINES_DROPPED
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.platform import Platform
from callboard.jobs.watched_thread import report_failure
from callboard.workers.board import Board
from callboard.workers.boot_report import IMPORTING
from callboard.workers.child_parts import Reporting, Runners, Stores, make_broker
from callboard.workers.child_plan import ChildPlan
from callboard.workers.execute import forks
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.interrupts import ShutdownInterrupt
from callboard.workers.execute.job_loop import serve_calls
from callboard.workers.execute.job_threads import carry_jobs_into_threads
from callboard.workers.exit_codes import EXIT_CONFIG, EXIT_OK, EXIT_REPLACED, EXIT_UNAVAILABLE
from callboard.workers.fetch.slots import Slots
from callboard.workers.job_imports import check_jobs, import_jobs
from callboard.workers.process import green_threads
from callboard.workers.report.monitor import interrupt
from callboard.workers.shared_names import warn_of_shared_names
from callboard.workers.stop_signal import LAST_RESORT, StopSignal

#: Interrupted jobs have this time to clean up after the grace period. Seconds.
_CLEANUP_TIME: Final = 2.0
#: While it stops: how long a statement waits; from the end of the grace period, how long all of them wait,
#: and when the process ends in spite of a thread that hangs. Seconds.
_STOP_ANSWER: Final = 3.0
_LAST_WRITES: Final = 5.0

_exit: Final = sys.exit

log = structlog.get_logger(__name__)


def main(plan: ChildPlan, board: Board) -> None:
    """Run jobs until the supervisor says stop, or ends. The exit code says how the process ended."""
    configure_for_jobs(
        plan.settings.log_format,
        plan.settings.log_level,
        job_log_fields,
        background=Background(LOG_LINES_DROPPED.inc),
    )
    # Dramatiq would print the traceback of every failed job. The platform stores it with the job.
    logging.getLogger("dramatiq.worker.WorkerThread").setLevel(logging.CRITICAL)
    stop = StopSignal(plan.settings.grace.total_seconds(), board)
    try:
        with board.boot.watching():
            child = WorkerChild(plan, board)
            child.start()
    except CallboardError as error:
        # The supervisor logs it, once for all its children.
        board.boot.fail(error.message)
        log.debug("worker.boot_failed", exc_info=True)
        raise SystemExit(EXIT_UNAVAILABLE if isinstance(error, Unavailable) else EXIT_CONFIG) from None
    except Exception as error:  # multiprocessing would print it, and might wait for the reader of stderr
        board.boot.fail(described(error))
        log.exception("worker.boot_failed")
        raise SystemExit(1) from None
    child.surviving(lambda: stop.wait(child.is_over))
    child.surviving(lambda: child.drain(stop))
    # A job may have replaced it, and multiprocessing calls it with the exit code.
    sys.exit = _exit
    raise SystemExit(EXIT_REPLACED if child.must_be_replaced else EXIT_OK)


class WorkerChild:
    """The parts of a worker child, put together."""

    def __init__(self, plan: ChildPlan, board: Board) -> None:
        self._plan = plan
        self._board = board
        settings = plan.settings
        self._platform = Platform(
            sqlalchemy_url(plan.database_url), plan.redis_url, lease=settings.lease_ttl, pool_size=8,
            application="callboard worker", schema=settings.schema_name, allow_pooler=False,
            app=settings.app,
        )  # fmt: skip
        #: The threads that ended and could not be started again.
        self.lost_threads: list[str] = []
        self._draining = Event()
        try:
            if settings.middleware:
                board.boot.begin(f"{IMPORTING} the middleware of CALLBOARD_MIDDLEWARE")
            self._broker, adoption = make_broker(self._platform, self._draining, settings)
            import_jobs(settings.jobs, board.boot)
            adoption.settle()
        finally:
            # Patched threads may make the import fail too, with an error that does not name them.
            green_threads.refuse()
        board.boot.begin("published its jobs")
        self._definitions = self._broker.definitions()
        check_jobs(self._definitions, settings.jobs)
        # The publication puts the modules of this process in the place of others.
        warn_of_shared_names(self._platform.catalogue, self._definitions)
        self._published = self._platform.catalogue.publish(
            [definition.type for definition in self._definitions.values()]
        )
        self._slots = Slots(settings.slots, settings.async_slots, settings.threads, SYSTEM)
        stores = Stores.of(self._platform, plan.worker_id)
        # This comes after the import of the jobs, because their modules may configure logging too.
        self._reporting = Reporting(stores, self._platform, self._slots, board, self._draining, settings)
        self._runners = Runners(
            stores, self._platform, self._reporting, self._slots, self._broker, self._definitions,
            board, self._draining, settings, solo=plan.solo,
        )  # fmt: skip

    def start(self) -> None:
        """Register the worker and start its threads."""
        forks.watch(AsyncRunner.work.__code__)
        carry_jobs_into_threads()
        settings = self._plan.settings
        card = WorkerCard(
            id=self._plan.worker_id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queues=settings.queues,
            job_names=tuple(sorted(self._definitions)),
            threads=settings.threads,
            slots=settings.slots,
            job_versions=tuple(version.key for version in self._published),
        )
        self._platform.workers.register(card)
        self._reporting.start()
        self._runners.loop.start()
        serve_calls(self._runners.loop)
        self._reporting.monitor.start()
        self._broker.emit_after("process_boot")
        garbage.settle()
        self._runners.worker.start()
        log.info("worker.ready", worker_id=str(self._plan.worker_id), jobs=len(self._definitions))

    def surviving(self, call: Callable[[], object]) -> None:
        """Call a part of the main thread's work. When it fails, this process must be replaced."""
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - a job may have broken what this thread uses
            self.lost_threads.append("callboard-main")
            self._announce_end()
            report_failure("callboard-main", error)

    @property
    def must_be_replaced(self) -> bool:
        """Whether this process can no longer run jobs: it lost a thread, or a job changed it for good."""
        return bool(self.lost_threads) or self._reporting.guard.replacement is not None

    def is_over(self) -> bool:
        """Return whether this child must drain without a request: it must be replaced, or no job is left that
        must run alone. A lost thread that runs sync jobs is started again here.
        """
        self._runners.worker.replace_dead_threads()
        self.lost_threads = [*self._runners.lost_threads(), *self._reporting.lost_threads()]
        if self.must_be_replaced:
            self._announce_end()
        if self.lost_threads:
            log.error("worker.threads_lost", threads=self.lost_threads, then="the process is replaced")
        if self.must_be_replaced:
            return True
        return self._runners.is_settled() and not self._slots.count()

    def _announce_end(self) -> None:
        """Tell the supervisor why this process must be replaced, and when it ends at the latest."""
        reason = self._reporting.guard.replacement or f"it lost the threads {', '.join(self.lost_threads)}"
        longest = self._plan.settings.grace.total_seconds() + LAST_RESORT + 1
        worked = bool(self._slots.ended or self._slots.count())
        self._board.leave(reason, SYSTEM.monotonic() + longest, worked=worked)

    def drain(self, stop: StopSignal) -> None:
        """Stop claiming, hand back jobs that have not started, and wait a grace period for running jobs."""
        grace = self._plan.settings.grace.total_seconds()
        deadline = SYSTEM.monotonic() + grace
        log.info("worker.draining", running=len(self._slots.held()), grace=grace)
        self._draining.set()
        self._platform.database.hurry(_STOP_ANSWER, grace + _LAST_WRITES)
        end_at_latest(grace + LAST_RESORT, EXIT_REPLACED if self.must_be_replaced else EXIT_OVERDUE)
        with suppress(Unavailable):
            self._platform.workers.drain(self._plan.worker_id)
        self._hand_back()
        for attempt in self._slots.held():
            if attempt.option("notify_shutdown"):
                interrupt(attempt, ShutdownInterrupt)
        renew_at = 0.0
        while not self._slots.wait_empty(0.1):
            if stop.orphaned.is_set() and SYSTEM.monotonic() > renew_at:
                # Without the lease, these jobs would be taken for those of a dead worker.
                renew_at = SYSTEM.monotonic() + self._platform.workers.ttl.total_seconds() / 4
                with suppress(Unavailable):
                    self._platform.workers.renew([self._plan.worker_id])
            # Attempts that were between the claim and the threads before may be in the work queue now.
            self._hand_back()
            # Without these threads no outcome is written, and no job is interrupted.
            if stop.hurries or self._reporting.lost_threads() or SYSTEM.monotonic() > deadline:
                self._interrupt_all()
                break
        self._runners.worker.stop(timeout=1000)
        if self._reporting.stop(_CLEANUP_TIME):
            with suppress(Unavailable):
                self._platform.workers.end(self._plan.worker_id, suspects=())
        # The work is done. A signal that arrives now must not look like a crash. Python takes a handler of
        # its own back when it ends, but not this one.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        log.info("worker.stopped", left=len(self._slots.held()))

    def _hand_back(self) -> None:
        for attempt in self._runners.consumer.take_back():
            attempt.unstarted = True
            self._reporting.flusher.put(attempt)

    def _interrupt_all(self) -> None:
        """Interrupt all jobs at the end of the grace period.

        They are handed back as if they had not started.
        """
        for attempt in self._slots.held():
            interrupt(attempt, ShutdownInterrupt)
        self._slots.wait_empty(_CLEANUP_TIME)
