"""Interrupts that come while the hooks around an async job run in a thread."""

import asyncio
from contextlib import contextmanager
from threading import Event, get_ident
from typing import Any

import pytest
from dramatiq.middleware import Middleware

from callboard.workers.execute.interrupts import CancelInterrupt, ShutdownInterrupt, TimeoutInterrupt
from callboard.workers.execute.worker_broker import WorkerBroker
from tests.unit.attempts import PATIENCE, attempt_of, end_of, loop_stage, until

BEFORE, AFTER = "before_process_message", "after_process_message"


class Blocking(Middleware):
    """Blocks in one hook until it is released."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.reached, self.release = Event(), Event()
        self.seen: list[tuple[str, int, Any]] = []

    def _see(self, hook: str, detail: Any = None) -> None:
        self.seen.append((hook, get_ident(), detail))
        if hook == self.where:
            self.reached.set()
            assert self.release.wait(PATIENCE)

    def before_process_message(self, broker, message):
        self._see(BEFORE)

    def after_process_message(self, broker, message, *, result=None, exception=None):
        self._see(AFTER, (result, type(exception)))

    def after_ack(self, broker, message):
        self._see("after_ack")


def nowhere():
    raise AssertionError("nothing connects here")


@contextmanager
def blocked(where, function):
    """Yield a stage, its middleware and an attempt at the function, which this hook holds up."""
    blocking = Blocking(where)
    around = WorkerBroker(nowhere, Event(), middleware=[blocking]).around
    with loop_stage(around=around) as stage:
        attempt = attempt_of(function)
        stage.runner.submit([attempt])
        assert blocking.reached.wait(PATIENCE)
        yield stage, blocking, attempt
        blocking.release.set()
        until(lambda: attempt in stage.done)
    hooks = [hook for hook, *_ in blocking.seen]
    assert hooks == [BEFORE, AFTER, "after_ack"]
    assert len({thread for _, thread, _ in blocking.seen}) == 1


async def returns():
    return "done"


def test_a_cancel_before_the_job_began_keeps_its_function_from_running():
    async def must_not_run():
        raise AssertionError

    with blocked(BEFORE, must_not_run) as (_, _, attempt):
        assert attempt.interrupt is None
        assert attempt.deadline is None
        attempt.running.cancel_requested = True
    assert end_of(attempt)[0] == "stop"
    assert "cancelled before it began" in attempt.finish.error.message


@pytest.mark.parametrize("reason", [TimeoutInterrupt, CancelInterrupt, ShutdownInterrupt])
def test_an_interrupt_that_comes_during_the_last_hooks_changes_nothing(reason):
    send = []

    async def notes_its_interrupt():
        send.append(attempts[0].interrupt)
        return "done"

    attempts = []
    blocking = Blocking(AFTER)
    around = WorkerBroker(nowhere, Event(), middleware=[blocking]).around
    with loop_stage(around=around) as stage:
        attempts.append(attempt_of(notes_its_interrupt))
        stage.runner.submit(attempts)
        assert blocking.reached.wait(PATIENCE)
        assert attempts[0].interrupt is None
        # a monitor that read it just before
        send[0](reason)
        after = attempt_of(returns)
        stage.runner.submit([after])
        blocking.release.set()
        until(lambda: len(stage.done) == 2)
    assert end_of(attempts[0]) == ("complete", None)
    assert end_of(after) == ("complete", None)
    assert [detail for hook, _, detail in blocking.seen if hook == AFTER] == [("done", type(None))] * 2


def test_a_job_that_cancels_its_own_task_during_the_last_hooks_changes_nothing():
    cancelled = Event()

    async def leaves_a_task_behind():
        own = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def cancels():
            own.cancel()
            cancelled.set()

        loop.call_later(0.05, cancels)
        return "done"

    with blocked(AFTER, leaves_a_task_behind) as (_, _, attempt):
        assert cancelled.wait(PATIENCE)
    assert end_of(attempt) == ("complete", None)


def test_a_job_that_cancels_itself_when_it_returns_changes_nothing():
    async def cancels_itself():
        asyncio.current_task().cancel()
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        return "done"

    with blocked(AFTER, cancels_itself) as (_, _, attempt):
        pass
    assert end_of(attempt) == ("complete", None)


def test_the_loop_runs_other_jobs_while_a_hook_blocks():
    with blocked(BEFORE, returns) as (stage, blocking, attempt):
        blocking.where = "none"
        other = attempt_of(returns)
        stage.runner.submit([other])
        until(lambda: other in stage.done)
        assert attempt not in stage.done
        blocking.seen = blocking.seen[:1]
