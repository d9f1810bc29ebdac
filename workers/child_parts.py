"""The parts of a worker child, in groups: the stores, the running of jobs, and the reporting of outcomes."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from uuid import UUID

import dramatiq

from callboard.config import log_capture
from callboard.config.setting_types import LOG_LEVELS
from callboard.config.settings import Settings
from callboard.jobs.attempts.claims import Claims
from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.ends import Ends
from callboard.jobs.attempts.job_log_writer import JobLogWriter
from callboard.jobs.attempts.reports import Reports
from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.dramatiq.definition import JobDefinition
from callboard.jobs.dramatiq.loading import load_middleware
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.job import Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.platform import Platform
from callboard.workers.board import Board
from callboard.workers.execute.adoption import BrokerAdoption
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt_factory import AttemptFactory
from callboard.workers.execute.job_loop import leave_out_own_loop
from callboard.workers.execute.silent_loop import SilentLoop
from callboard.workers.execute.sync_runner import JobWorker
from callboard.workers.execute.worker_broker import Runner, WorkerBroker
from callboard.workers.fetch.consumer import JobConsumer
from callboard.workers.fetch.slots import Slots
from callboard.workers.fetch.solo import SoloConsumer
from callboard.workers.fetch.work_queue import WorkQueue
from callboard.workers.process.process_guard import ProcessGuard
from callboard.workers.report.announcer import Announcer
from callboard.workers.report.flusher import Flusher
from callboard.workers.report.hold_watch import HoldWatch
from callboard.workers.report.job_log_flusher import JobLogFlusher
from callboard.workers.report.job_log_handler import JobLogHandler
from callboard.workers.report.monitor import Monitor

#: How long an idle worker thread waits before it checks for a stop. Milliseconds.
_WORKER_TIMEOUT = 500


@dataclass(frozen=True, slots=True)
class Stores:
    """The services that read and write the attempts of one worker."""

    claims: Claims
    ends: Ends
    reports: Reports
    job_logs: JobLogWriter

    @classmethod
    def of(cls, platform: Platform, worker: UUID) -> "Stores":
        """Make the services of this worker."""
        database = platform.database
        claims = Claims(database, worker)
        return cls(
            claims,
            Ends(database, platform.transport, claims, platform.followers),
            Reports(database, worker),
            JobLogWriter(database),
        )


class Reporting:
    """The threads that write outcomes, log lines and progress, and monitor running jobs."""

    def __init__(
        self,
        stores: Stores,
        platform: Platform,
        slots: Slots,
        board: Board,
        draining: Event,
        settings: Settings,
    ) -> None:
        self.announcer = Announcer(platform.transport)
        self.guard = ProcessGuard(slots, draining)
        self.flusher = Flusher(stores.ends, slots, self.announcer, self.guard.prepare)
        self.job_logs = JobLogFlusher(stores.job_logs, self.flusher, SYSTEM)
        self.monitor = Monitor(stores.reports, slots, board, SYSTEM, self.guard.check)
        log_capture.start(JobLogHandler(LOG_LEVELS[settings.job_log_level], self.job_logs.register))

    def start(self) -> None:
        """Start the threads, except the monitor: its first beat says that the child is ready."""
        for thread in (self.announcer, self.flusher, self.job_logs):
            thread.start()

    def lost_threads(self) -> list[str]:
        """Return the names of the threads that ended without being asked to."""
        threads = (self.announcer, self.flusher, self.job_logs, self.monitor)
        return [thread.name for thread in threads if thread.failed]

    def stop(self, seconds: float) -> bool:
        """Write the waiting data and end the threads; return whether all outcomes were written in time."""
        self.job_logs.stop(seconds / 2)
        written = self.flusher.stop(seconds)
        self.announcer.stop()
        self.monitor.stop()
        return written


class Runners:
    """The consumer, Dramatiq's worker and the event loop."""

    def __init__(
        self,
        stores: Stores,
        platform: Platform,
        reporting: Reporting,
        slots: Slots,
        broker: WorkerBroker,
        definitions: dict[str, JobDefinition],
        board: Board,
        draining: Event,
        settings: Settings,
        *,
        solo: bool,
    ) -> None:
        board_writer = board.writer()
        self.loop = AsyncRunner(
            settings.async_slots, board_writer, draining, reporting.job_logs.put, broker.around
        )
        self._silent_loop = SilentLoop(self.loop)
        work_queue = WorkQueue()
        self.consumer = (SoloConsumer if solo else JobConsumer)(
            claims=stores.claims,
            transport=platform.transport,
            definitions=definitions,
            queues=settings.queues,
            slots=slots,
            ends=reporting.job_logs,
            loop=self.loop,
            work_queue=work_queue,
            make_attempt=attempt_factory(platform, reporting.monitor.progressed, settings),
            draining=draining,
            clock=SYSTEM,
        )
        reporting.flusher.successors = self.consumer
        await_value = self.loop.await_value
        broker.serve(
            self.consumer, lambda actor: Runner(actor, broker.current, board_writer, draining, await_value)
        )
        self.worker = JobWorker(
            broker,
            work_queue,
            board_writer,
            draining,
            self.consumer.end,
            await_value,
            threads=settings.threads,
            timeout=_WORKER_TIMEOUT,
        )

        reporting.monitor.holds = HoldWatch(self.loop, self.worker.job_threads, slots, board, stores.reports)

    def lost_threads(self) -> list[str]:
        """Return the names of the threads that ended without being asked to, without those of sync jobs."""
        lost = [self.loop.name] if self.loop.failed or self._silent_loop.is_dead() else []
        return lost + ["callboard-consumer"] * self.worker.has_lost_consumer()

    def is_settled(self) -> bool:
        """Return whether this child was for one job, and has claimed it or found none."""
        return isinstance(self.consumer, SoloConsumer) and self.consumer.settled.is_set()


def attempt_factory(
    platform: Platform, on_progress: Callable[[RunningJob], None], settings: Settings
) -> AttemptFactory:
    """Return the factory for the attempts of this process."""

    def enqueue_job(request: JobRequest, source: Source) -> UUID:
        named = platform.catalogue.in_app(request)
        return platform.enqueue.accept(platform.enqueue.check(named, source)).ids[0]

    def read_body(delivery_id: UUID) -> bytes:
        return platform.deliveries.body(delivery_id)

    verdict = Verdict(f"{socket.gethostname()}:{os.getpid()}", settings.result_limit)
    return AttemptFactory(verdict, enqueue_job, on_progress, read_body, SYSTEM)


def make_broker(
    platform: Platform, draining: Event, settings: Settings
) -> tuple[WorkerBroker, BrokerAdoption]:
    """Make the broker of this process with the configured middleware, and set it as Dramatiq's global broker.

    The brokers that modules make from now on are adopted. Call `settle()` after the jobs' modules are
    imported.
    """
    broker = WorkerBroker(lambda: platform, draining, middleware=[])
    dramatiq.set_broker(broker)
    leave_out_own_loop()
    adoption = BrokerAdoption(broker)
    adoption.begin()
    # This comes after set_broker, because a middleware module may declare jobs too.
    broker.configured = load_middleware(settings.middleware)
    for middleware in broker.configured:
        broker.add_middleware(middleware)
    return broker, adoption
