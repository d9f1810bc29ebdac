"""A worker child: one process that runs jobs, from boot to a clean end. Its composition root."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Event, Thread
from typing import Final
from uuid import UUID

import dramatiq
import structlog

from callboard.config import garbage
from callboard.config.fields import LOG_LEVELS
from callboard.config.logging import configure
from callboard.config.settings import Settings, sqlalchemy_url
from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.execution import Execution
from callboard.jobs.attempts.job_logs import LastWords
from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.dramatiq.broker import VIRTUAL_QUEUE
from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.jobs.dramatiq.loading import load_middleware
from callboard.jobs.errors import CallboardError, InvalidInput, Unavailable
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.jobs.model.clock import SYSTEM
from callboard.jobs.platform import Platform
from callboard.workers.board import Board
from callboard.workers.execute import forks
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.interrupts import ShutdownInterrupt
from callboard.workers.execute.runner import Runner, run
from callboard.workers.execute.threads import JobWorker
from callboard.workers.execute.worker_broker import WorkerBroker
from callboard.workers.fetch.consumer import JobConsumer
from callboard.workers.fetch.slots import Slots
from callboard.workers.fetch.solo import SoloConsumer
from callboard.workers.fetch.work_queue import WorkQueue
from callboard.workers.report.announcer import Announcer
from callboard.workers.report.flusher import Flusher
from callboard.workers.report.job_log_writer import JobLogHandler, Scribe
from callboard.workers.report.monitor import Monitor, interrupt

#: Exit codes that the supervisor understands.
EXIT_CONFIG: Final = 2
EXIT_UNAVAILABLE: Final = 7
#: How often an idle worker thread looks up. Milliseconds.
_WORKER_TIMEOUT: Final = 500
#: After the grace period, for interrupted jobs to clean up. Seconds.
_LAST_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What the supervisor tells a child; it travels to the new process."""

    worker_id: UUID
    settings: Settings
    database_url: str
    redis_url: str
    #: Run one job that is to run alone, and end.
    solo: bool = False


def main(plan: ChildPlan, board: Board) -> None:
    """Run jobs until SIGTERM, or until the parent is gone. The process's exit code says how it ended."""
    configure(plan.settings.log_format, plan.settings.log_level, heard=plan.settings.job_log_level)
    # Dramatiq would print every failed job's traceback; the platform keeps it with the job.
    logging.getLogger("dramatiq.worker.WorkerThread").setLevel(logging.CRITICAL)
    stop = StopSignal()
    try:
        child = Child(plan, board)
        child.start()
    except CallboardError as error:
        log.error("worker.boot_failed", reason=error.message)  # noqa: TRY400 - one line says it
        sys.exit(EXIT_UNAVAILABLE if isinstance(error, Unavailable) else EXIT_CONFIG)
    stop.wait(child.is_done)
    child.drain(stop)
    sys.exit(0)


class StopSignal:
    """SIGTERM or SIGINT once: drain. Twice: at once. The parent's death counts as the first."""

    def __init__(self) -> None:
        self._asked = Event()
        self.hurry = Event()
        signal.signal(signal.SIGTERM, self._on_signal)
        # Ctrl-C reaches the whole process group; the supervisor passes on what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Thread(target=self._watch_parent, name="callboard-parent", daemon=True).start()

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until a stop is asked for, or all is done."""
        # With a timeout, so that signals are handled while waiting.
        while not self._asked.wait(0.2) and not done():
            pass

    def _on_signal(self, *_: object) -> None:
        (self.hurry if self._asked.is_set() else self._asked).set()

    def _watch_parent(self) -> None:
        parent = parent_process()
        if parent is not None:
            wait([parent.sentinel])
            log.warning("worker.orphaned")
            self._asked.set()


class Child:
    """The parts of a worker child, put together."""

    def __init__(self, plan: ChildPlan, board: Board) -> None:
        settings = plan.settings
        self._plan = plan
        self._platform = Platform(
            sqlalchemy_url(plan.database_url), plan.redis_url, lease=settings.lease_ttl, pool_size=8,
            application="callboard worker",
        )  # fmt: skip
        self._draining = Event()
        self._broker = WorkerBroker(lambda: self._platform, self._draining, middleware=[])
        dramatiq.set_broker(self._broker)
        # With the broker in place: a module of middleware may declare jobs of its own.
        for middleware in load_middleware(settings.middleware):
            self._broker.add_middleware(middleware)
        import_jobs(settings.jobs)
        self._definitions = self._broker.definitions()
        self._platform.catalogue.publish([definition.type for definition in self._definitions.values()])

        self._execution = Execution(
            self._platform.database,
            self._platform.transport,
            plan.worker_id,
            dispatching=self._platform.dispatching,
        )
        self._slots = Slots(settings.slots, settings.async_slots, settings.threads, SYSTEM)
        self._announcer = Announcer(self._platform.transport)
        self._flusher = Flusher(self._execution, self._slots, self._announcer)
        self._scribe = Scribe(LastWords(self._platform.database), self._flusher, SYSTEM)
        # After the modules of jobs, which may have set up logging in their own way.
        JobLogHandler(LOG_LEVELS[settings.job_log_level], self._scribe).install()
        self._monitor = Monitor(self._execution, self._slots, board, SYSTEM)
        self._verdict = Verdict(f"{socket.gethostname()}:{os.getpid()}", settings.result_limit)
        put_on_board = board.writer()
        self._loop = AsyncRunner(
            settings.async_slots, put_on_board, self._draining, self._scribe.put, self._broker.around
        )
        work_queue = WorkQueue()
        self._consumer = (SoloConsumer if plan.solo else JobConsumer)(
            execution=self._execution,
            transport=self._platform.transport,
            definitions=self._definitions,
            wanted=settings.queues,
            slots=self._slots,
            ends=self._scribe,
            loop=self._loop,
            work_queue=work_queue,
            make_attempt=self._attempt,
            draining=self._draining,
            clock=SYSTEM,
        )
        self._broker.serve(
            self._consumer,
            lambda actor: Runner(actor, self._broker.current, put_on_board, self._draining),
        )
        self._worker = JobWorker(
            self._broker,
            work_queue,
            lambda attempt: run(attempt, put_on_board, self._draining),
            self._consumer.end,
            threads=settings.threads,
            timeout=_WORKER_TIMEOUT,
        )

    def start(self) -> None:
        """Take a lease, and begin."""
        forks.watch()
        settings = self._plan.settings
        card = WorkerCard(
            id=self._plan.worker_id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queues=settings.queues,
            job_names=tuple(sorted(self._definitions)),
            threads=settings.threads,
            slots=settings.slots,
        )
        self._platform.workers.register(card)
        self._announcer.start()
        self._flusher.start()
        self._scribe.start()
        self._loop.start()
        self._monitor.start()
        self._broker.emit_after("process_boot")
        self._broker.declare_queue(VIRTUAL_QUEUE)
        garbage.settle()
        self._worker.start()

    def is_done(self) -> bool:
        """Whether this child was for one job, and that is over."""
        consumer = self._consumer
        return isinstance(consumer, SoloConsumer) and consumer.settled.is_set() and not self._slots.count()

    def drain(self, stop: StopSignal) -> None:
        """Stop fetching; hand back at once what has not begun; let the rest end within the grace period."""
        grace = self._plan.settings.grace.total_seconds()
        log.info("worker.draining", running=len(self._slots.held()), grace=grace)
        self._draining.set()
        with suppress(Unavailable):
            self._platform.workers.drain(self._plan.worker_id)
        self._hand_back()
        for attempt in self._slots.held():
            if attempt.option("notify_shutdown"):
                interrupt(attempt, ShutdownInterrupt)
        deadline = SYSTEM.monotonic() + grace
        while not self._slots.wait_empty(0.1):
            # What was on its way from the claim to the threads, and was in neither place, may be in one by now.
            self._hand_back()
            if stop.hurry.is_set() or SYSTEM.monotonic() > deadline:
                self._interrupt_all()
                break
        self._worker.stop(timeout=1000)
        self._scribe.stop(_LAST_SECONDS / 2)
        written = self._flusher.stop(_LAST_SECONDS)
        self._announcer.stop()
        self._monitor.stop()
        if written:
            with suppress(Unavailable):
                self._platform.workers.end(self._plan.worker_id, suspects=())
        # All is done: a signal that comes now must not make a clean end look like a death.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        log.info("worker.stopped", left=len(self._slots.held()))

    def _hand_back(self) -> None:
        for attempt in self._consumer.take_back():
            attempt.unstarted = True
            self._flusher.put(attempt)

    def _interrupt_all(self) -> None:
        """The grace is over: interrupted jobs go back as if they had not begun."""
        for attempt in self._slots.held():
            interrupt(attempt, ShutdownInterrupt)
        self._slots.wait_empty(_LAST_SECONDS)

    def _attempt(self, job: ClaimedJob, definition: JobDefinition) -> Attempt:
        running = RunningJob(job, self._platform.enqueue, self._monitor.progressed)
        return Attempt(job, definition, running, self._verdict, SYSTEM)


def import_jobs(modules: tuple[str, ...]) -> None:
    """Import the modules that define jobs; raises InvalidInput that names the one that fails."""
    if not modules:
        raise InvalidInput(
            "CALLBOARD_JOBS names no module that defines jobs (for example: CALLBOARD_JOBS=myapp.jobs)"
        )
    for name in modules:
        try:
            import_module(name)
        except Exception as error:
            log.debug("worker.import_failed", module=name, exc_info=True)
            raise InvalidInput(
                f"CALLBOARD_JOBS: the module {name!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
