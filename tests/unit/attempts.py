"""Real attempts for unit tests, without a database."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from types import SimpleNamespace
from typing import Any

import dramatiq
from dramatiq.brokers.stub import StubBroker

from callboard.jobs.attempts.context import RunningJob
from callboard.jobs.attempts.verdict import Verdict
from callboard.jobs.dramatiq.definition import define
from callboard.jobs.model.basics.clock import SYSTEM
from callboard.jobs.model.basics.ids import new_id
from callboard.jobs.model.claimed_job import ClaimedJob
from callboard.workers.board import Board
from callboard.workers.execute.async_runner import AsyncRunner
from callboard.workers.execute.attempt import Attempt

PATIENCE = 60.0


def attempt_of(function: Callable[..., Any], *, ours: bool = False, **columns: Any) -> Attempt:
    """An attempt of a job without arguments that has attempts left. ours: of a `@job`."""
    actor = dramatiq.Actor(
        function, broker=StubBroker(), actor_name="tried", queue_name="q", priority=0, options={}
    )
    now = datetime.now(UTC)
    values: dict[str, Any] = dict.fromkeys(ClaimedJob._fields) | {
        "id": new_id(), "epoch": 1, "claim_id": new_id(), "name": "tried", "queue": "q", "args_json": "[]",
        "kwargs_json": "{}", "put_off": 0, "started_at": now, "run_at": now, "enqueued_at": now, "attempt": 1,
        "max_attempts": 3, "priority": 5, "timeout": timedelta(seconds=2),
    }  # fmt: skip
    job = ClaimedJob(**(values | columns))
    running = RunningJob(job, lambda *_: new_id(), lambda _: None, lambda _: b"")
    definition = replace(define(actor), is_ours=ours)
    return Attempt(job, definition, running, Verdict("here"), SYSTEM)


def end_of(attempt: Attempt) -> tuple[str, str | None]:
    """The verb of an attempt's end, and the class of its error."""
    assert attempt.finish is not None
    error = attempt.finish.error
    return str(attempt.finish.verb), None if error is None else error.error_class.rpartition(".")[2]


class LoopStage:
    """An event loop, its board, and the attempts that have ended."""

    def __init__(self, at_once: int = 10, around: Any = None) -> None:
        self.done: list[Attempt] = []
        self.board = Board(2 * at_once)
        self.draining = Event()
        around = around or SimpleNamespace(concern=lambda _: False, may_block=False)
        self.board_writer = self.board.writer()
        self.runner = AsyncRunner(at_once, self.board_writer, self.draining, self.done.append, around)

    def run(self, *attempts: Attempt) -> None:
        """Run these attempts to their end."""
        self.runner.submit(attempts)
        until(lambda: all(attempt in self.done for attempt in attempts))


@contextmanager
def loop_stage(at_once: int = 10, around: Any = None) -> Iterator[LoopStage]:
    stage = LoopStage(at_once, around)
    stage.runner.start()
    yield stage
    stage.runner.stop()
    assert not stage.runner.is_alive()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)
