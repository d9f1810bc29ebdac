"""What Dramatiq's own tests get in place of their stub broker and worker: ours, in this process, over real
servers.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import Any
from uuid import UUID

import dramatiq
from dramatiq.errors import QueueJoinTimeout
from dramatiq.middleware import SkipMessage

from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.attempts.worker import WorkerCard
from callboard.jobs.dramatiq.definition import JobDefinition, define
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.job import Job, Source
from callboard.jobs.model.request import JobRequest
from callboard.jobs.model.states import TERMINAL, JobState
from callboard.jobs.operate.job_filter import JobFilter
from callboard.jobs.platform import Platform
from callboard.scheduler.feeder import Feeder
from callboard.workers.board import Board
from callboard.workers.child_parts import Stores
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt import TOO_OLD
from callboard.workers.execute.attempt_factory import AttemptFactory
from callboard.workers.execute.sync_runner import JobWorker
from callboard.workers.execute.worker_broker import Runner, WorkerBroker
from callboard.workers.fetch.consumer import JobConsumer
from callboard.workers.fetch.slots import Slots
from callboard.workers.fetch.work_queue import WorkQueue
from callboard.workers.report.announcer import Announcer
from callboard.workers.report.flusher import Flusher
from callboard.workers.report.monitor import Monitor

#: The queues of all the tests; a worker serves those that it is told of.
QUEUES = ("default", "tasks", "foo", "some-queue")
PATIENCE = 60.0
_SLOTS = 64


class StandInBroker(WorkerBroker):
    """Our worker's broker, with what the tests ask of the stub broker besides."""

    def __init__(self, platform: Platform) -> None:
        self.draining = Event()
        self._rejected: list[tuple[dramatiq.MessageProxy, BaseException | None]] = []
        super().__init__(lambda: platform, self.draining, middleware=[])

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        if signal == "nack":
            # the worker's thread clears the exception once the message is rejected
            self._rejected.append((args[0], args[0]._exception))
        super().emit_before(signal, *args, **kwargs)

    @property
    def dead_letters(self) -> list[dramatiq.Message[Any]]:
        return [message._message for message, _ in self._rejected]

    def join(
        self, queue_name: str, *, interval: int = 10, timeout: int | None = None, fail_fast: bool = True
    ) -> None:
        """Wait until every job of the queue has ended; with fail_fast raise what one of them has failed with."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout / 1000)
        while unfinished := [job for job in self._jobs(queue_name) if job.state not in TERMINAL]:
            if time.monotonic() > deadline:
                raise QueueJoinTimeout(  # type: ignore[no-untyped-call]
                    f"timed out: {[job.state for job in unfinished]}"
                )
            time.sleep(interval / 1000)
        if not fail_fast:
            self._rejected = [(message, None) for message, _ in self._rejected]
            return
        for message, error in self._rejected:
            if message.queue_name == queue_name:
                raise error or Exception("Message failed with unknown error")
        for job in self._jobs(queue_name):
            told = job.errors[-1]["message"] if job.errors else ""
            if job.state is JobState.CANCELLED and TOO_OLD in (told, job.progress_note and TOO_OLD):
                raise SkipMessage(TOO_OLD)

    def _jobs(self, queue_name: str) -> list[Job]:
        return self.platform.jobs.page(JobFilter(queue=queue_name), limit=200).items


class Declared(dict[str, JobDefinition]):
    """Definitions of actors as they are declared: a test declares its own while the worker runs."""

    def __init__(self, broker: StandInBroker) -> None:
        super().__init__()
        self._broker = broker

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self and name in self._broker.actors:
            self[name] = define(self._broker.actors[name])
        return super().get(name, default)


class StandInWorker:
    """A worker child's parts, put together in this process; Dramatiq's own worker answers for the rest."""

    def __init__(
        self,
        broker: StandInBroker,
        *,
        worker_timeout: int = 50,
        worker_threads: int = 8,
        queues: Iterable[str] | None = None,
    ) -> None:
        platform = broker.platform
        self.worker_id = new_id()
        self._stores = stores = Stores.of(platform, self.worker_id)
        self._broker = broker
        self._platform = platform
        self._slots = Slots(_SLOTS, _SLOTS, worker_threads, SYSTEM)
        self._announcer = Announcer(platform.transport)
        self._flusher = Flusher(stores.ends, self._slots, self._announcer)
        board = Board(2 * _SLOTS)
        self._monitor = Monitor(stores.reports, self._slots, board, SYSTEM)
        board_writer = board.writer()
        verdict = Verdict("here")
        self._loop = AsyncRunner(_SLOTS, board_writer, broker.draining, self._flusher.put, broker.around)
        work_queue = WorkQueue()

        def enqueue_job(request: JobRequest, source: Source) -> UUID:
            return platform.enqueue.accept(platform.enqueue.check(request, source)).ids[0]

        make_attempt = AttemptFactory(
            verdict, enqueue_job, self._monitor.progressed, platform.deliveries.body, SYSTEM
        )
        consumer = JobConsumer(
            claims=stores.claims, transport=platform.transport, definitions=Declared(broker),
            queues=tuple(queues or QUEUES), slots=self._slots, ends=self._flusher, loop=self._loop,
            work_queue=work_queue, make_attempt=make_attempt, draining=broker.draining, clock=SYSTEM,
        )  # fmt: skip
        await_value = self._loop.await_value
        broker.serve(
            consumer,
            lambda actor: Runner(actor, broker.current, board_writer, broker.draining, await_value),
        )
        self._worker = JobWorker(
            broker, work_queue, board_writer, broker.draining, consumer.end, await_value,
            threads=worker_threads, timeout=worker_timeout,
        )  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def start(self) -> None:
        card = WorkerCard(self.worker_id, "here", 1, (), (), 8, _SLOTS)
        self._platform.workers.register(card)
        for part in (self._announcer, self._flusher, self._loop, self._monitor):
            part.start()
        self._broker.emit_after("process_boot")
        self._worker.start()

    def join(self) -> None:
        assert self._slots.wait_empty(PATIENCE)

    def stop(self) -> None:
        self._broker.draining.set()
        self._slots.wait_empty(PATIENCE)
        self._worker.stop(timeout=1_000)
        self._flusher.stop(5)
        self._announcer.stop()
        self._monitor.stop()
        self._loop.stop()
        self._stores.claims.close()
        self._stores.ends.close()


@contextmanager
def working(broker: StandInBroker, **options: Any) -> Iterator[StandInWorker]:
    worker = StandInWorker(broker, **options)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


@contextmanager
def feeding(platform: Platform) -> Iterator[None]:
    """The scheduler's feeding loop, for delays and retries."""
    over, feeder = Event(), Feeder(platform, SYSTEM)

    def rounds() -> None:
        while not over.wait(0.02):
            feeder.round()

    thread = Thread(target=rounds, daemon=True)
    with ExitStack() as end:
        end.callback(lambda: thread.join(5))
        end.callback(over.set)
        thread.start()
        yield
