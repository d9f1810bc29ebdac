"""Threads of the platform that go on after an error, and what they had in hand then."""

import sys
import time
from threading import Event, current_thread
from types import SimpleNamespace
from typing import Any, cast

import dramatiq
import pytest
from dramatiq import Middleware
from prometheus_client import REGISTRY

from callboard.config.settings import Settings
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.watched_thread import WatchedThread
from callboard.scheduler.loops import LoopWork
from callboard.workers.board import Board
from callboard.workers.child import WorkerChild
from callboard.workers.execute.attempt import Attempt
from callboard.workers.execute.sync_runner import JobWorker
from callboard.workers.execute.worker_broker import Runner, WorkerBroker
from callboard.workers.fetch.slots import Slots
from callboard.workers.fetch.work_queue import WorkQueue
from callboard.workers.report.flusher import Flusher
from callboard.workers.report.job_log_flusher import JobLogFlusher
from tests.unit.attempts import attempt_of, end_of, loop_stage, until


def failures(thread: str) -> float:
    return REGISTRY.get_sample_value("callboard_thread_failures_total", {"thread": thread}) or 0.0


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_thread_goes_on_after_an_error_and_counts_it(error):
    calls, before = [], failures("tried")

    def work() -> None:
        calls.append(1)
        if len(calls) < 4:
            raise error

    thread = WatchedThread("callboard-tried", work)
    assert not thread.failed
    thread.start()
    thread.join(10)
    assert len(calls) == 4
    assert not thread.failed
    assert failures("tried") == before + 3


def test_a_thread_that_fails_too_often_ends_as_failed():
    thread = WatchedThread("callboard-tried", sys.exit)
    thread.start()
    thread.join(10)
    assert thread.failed
    assert not thread.is_alive()


def test_a_loop_of_the_scheduler_outlives_an_exit():
    before = failures("tried")
    assert LoopWork("tried")(sys.exit) is None
    assert failures("tried") == before + 1


class Ends:
    """Writes outcomes, and exits the first times."""

    def __init__(self, exits: int) -> None:
        self.exits, self.written = exits, []

    def hand_back(self, jobs: list[Any]) -> None:
        pass

    def finish(self, ends: list[Any]) -> dict[Any, Any]:
        if self.exits:
            self.exits -= 1
            raise SystemExit(1)
        self.written += ends
        return {}

    def notify_freed(self, queues: set[str]) -> None:
        pass


def ended() -> Attempt:
    attempt = attempt_of(lambda: None)
    attempt.returned(None)
    return attempt


@pytest.mark.parametrize("exits", [1, 2])
def test_the_flusher_writes_a_batch_again_that_an_exit_interrupted(exits):
    slots, ends = Slots(64, 64, 8, SYSTEM), Ends(exits)
    announcer: Any = SimpleNamespace(put=lambda _: None)
    flusher = Flusher(ends, slots, announcer)  # type: ignore[arg-type]
    flusher.start()
    attempts = [ended() for _ in range(20)]
    for attempt in attempts:
        slots.take(attempt)
        flusher.put(attempt)
    assert slots.wait_empty(10)
    assert flusher.stop(10)
    assert {end.id for end in ends.written} == {attempt.job.id for attempt in attempts}


def test_attempts_whose_last_lines_were_being_written_are_passed_on_after_an_exit():
    passed: list[Attempt] = []

    def write(*_: object) -> None:
        raise SystemExit(1)

    flusher: Any = SimpleNamespace(put=passed.append)
    writer: Any = SimpleNamespace(write=write, close=lambda: None)
    scribe = JobLogFlusher(writer, flusher, SYSTEM)
    scribe.start()
    attempt = ended()
    attempt.running.progress(0.5)
    scribe.put(attempt)
    until(lambda: passed == [attempt])
    scribe.stop(10)
    assert not scribe.is_alive()


class OwnExit(BaseException):
    pass


class Exits(Middleware):
    """Exits in one hook."""

    def __init__(self, hook: str, error: type[BaseException]) -> None:
        def exits(*_: object, **__: object) -> None:
            raise error

        setattr(self, hook, exits)


class NoJobs(dramatiq.Consumer):
    """Has no messages, and keeps the attempts that have ended."""

    def __init__(self) -> None:
        self.ended: list[Attempt] = []

    def __next__(self) -> None:
        time.sleep(0.01)

    def ack(self, message: Any) -> None:
        self.ended.append(message.attempt)

    nack = ack


def sync_worker(hook: str, error: type[BaseException]) -> tuple[JobWorker, NoJobs, WorkQueue]:
    draining, platform, queue, consumer = Event(), SimpleNamespace(), WorkQueue(), NoJobs()
    middleware: list[Any] = [Exits(hook, error)]
    broker = WorkerBroker(lambda: platform, draining, middleware=middleware)  # type: ignore[arg-type,return-value]
    broker.actors["tried"] = attempt_of(lambda: None).definition and SimpleNamespace(  # type: ignore[assignment]
        actor_name="tried", queue_name="q", options={}
    )

    board_writer = Board(2).writer()

    def no_await(*_: object) -> None:
        raise AssertionError

    broker.serve(consumer, lambda actor: Runner(actor, broker.current, board_writer, draining, no_await))
    worker = JobWorker(
        broker, queue, board_writer, draining, consumer.ended.append, no_await, threads=2, timeout=50
    )
    worker.start()
    return worker, consumer, queue


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, OwnExit])
@pytest.mark.parametrize(
    ("hook", "end"),
    [
        ("before_process_message", "retry"),
        ("after_process_message", "complete"),
        ("before_ack", "complete"),
        ("after_ack", "complete"),
        ("after_worker_thread_boot", "complete"),
    ],
)
def test_a_hook_that_exits_takes_no_thread_along(hook, end, error):
    worker, consumer, queue = sync_worker(hook, error)
    threads = worker.job_threads()
    attempts = [attempt_of(lambda: None) for _ in range(4)]
    for attempt in attempts:
        queue.put(attempt)
    until(lambda: len(consumer.ended) >= 4)
    assert {end_of(attempt)[0] for attempt in attempts} == {end}
    assert len(consumer.ended) == 4
    assert worker.job_threads() == threads
    assert all(thread.is_alive() for thread in threads)
    worker.stop(timeout=1_000)


@pytest.mark.parametrize("hook", ["before_process_message", "after_process_message", "after_ack"])
def test_a_hook_that_exits_around_an_async_job_ends_the_attempt_once(hook):
    broker = WorkerBroker(lambda: None, Event(), middleware=[Exits(hook, SystemExit)])  # type: ignore[arg-type,return-value]

    async def nothing() -> None:
        pass

    with loop_stage() as stage:
        stage.runner._around = broker.around
        attempts = [attempt_of(nothing) for _ in range(4)]
        stage.run(*attempts)
        assert {end_of(attempt)[0] for attempt in attempts} == {
            "retry" if hook.startswith("before") else "complete"
        }
        assert len(stage.done) == 4
        assert stage.board.started() == []


class Deadly:
    """Ends the thread that takes it from the queue, before any guard."""

    @property
    def message(self) -> None:
        raise SystemExit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_of_sync_jobs_that_ended_is_replaced():
    worker, consumer, queue = sync_worker("after_ack", OwnExit)
    before = worker.job_threads()
    for _ in before:
        queue.put(Deadly())  # type: ignore[arg-type]
    until(lambda: not any(thread.is_alive() for thread in before))
    worker.replace_dead_threads()
    attempt = attempt_of(lambda: None)
    queue.put(attempt)
    until(lambda: consumer.ended == [attempt])
    assert len(worker.job_threads()) == 2
    worker.stop(timeout=1_000)


def test_a_child_that_has_lost_a_thread_is_over():
    lost: list[str] = []
    worker = SimpleNamespace(replace_dead_threads=lambda: None)
    runners = SimpleNamespace(worker=worker, lost_threads=lambda: lost, is_settled=lambda: False)
    child = object.__new__(WorkerChild)
    child._runners = cast("Any", runners)
    child._reporting = cast(
        "Any", SimpleNamespace(lost_threads=list, guard=SimpleNamespace(replacement=None))
    )
    child._slots = cast("Any", SimpleNamespace(ended=["a job"], count=lambda: 0))
    child._plan = cast("Any", SimpleNamespace(settings=Settings()))
    child._board = Board(1)
    assert not child.is_over()
    assert not child._board.leaves_by
    lost.append("callboard-consumer")
    assert child.is_over()
    assert child.lost_threads == ["callboard-consumer"]
    assert child._board.boot.fault == "it lost the threads callboard-consumer"
    assert child._board.worked
    assert child._board.leaves_by


def test_a_thread_that_a_job_stopped_is_replaced():
    worker, consumer, queue = sync_worker("after_ack", OwnExit)
    before = worker.job_threads()
    for _ in before:
        queue.put(attempt_of(lambda: vars(current_thread()).update(running=False, paused=True)))
    until(lambda: not any(thread.is_alive() for thread in before))
    worker.replace_dead_threads()
    attempt = attempt_of(lambda: None)
    queue.put(attempt)
    until(lambda: attempt in consumer.ended)
    worker.stop(timeout=1_000)
    worker.replace_dead_threads()
    until(lambda: not any(thread.is_alive() for thread in worker.job_threads()))


@pytest.mark.parametrize("verb", ["stop", "pause"])
def test_a_job_cannot_stop_or_pause_a_thread_by_its_method(verb):
    worker, consumer, queue = sync_worker("after_ack", OwnExit)

    def calls_it() -> None:
        getattr(current_thread(), verb)()

    attempt = attempt_of(calls_it)
    queue.put(attempt)
    until(lambda: consumer.ended == [attempt])
    assert end_of(attempt)[1] == "RuntimeError"
    worker.stop(timeout=1_000)
