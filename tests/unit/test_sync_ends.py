"""How attempts of sync jobs end: exits, swallowed interrupts, and awaitables that a function returns."""

import _thread
import asyncio
import functools
import sys
import time
from contextlib import suppress
from datetime import timedelta
from threading import Event, Thread

import pytest

from callboard.jobs.attempts.context import current_job
from callboard.jobs.model.outcomes import Snooze
from callboard.workers.board import Board
from callboard.workers.execute.interrupts import CancelInterrupt, TimeoutInterrupt
from callboard.workers.execute.sync_runner import run
from tests.unit.attempts import Attempt, LoopStage, attempt_of, end_of, loop_stage, until


class OwnExit(BaseException):
    pass


def exits() -> None:
    sys.exit("x")


def exits_its_thread() -> None:
    _thread.exit()


def presses_ctrl_c() -> None:
    raise KeyboardInterrupt


def raises_generator_exit() -> None:
    raise GeneratorExit


def raises_its_own() -> None:
    raise OwnExit


def nothing_to_await(_attempt: Attempt, _value: object) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (exits, "SystemExit"), (exits_its_thread, "SystemExit"), (presses_ctrl_c, "KeyboardInterrupt"),
        (raises_generator_exit, "GeneratorExit"), (raises_its_own, "OwnExit"),
    ],
)  # fmt: skip
def test_a_sync_job_that_exits_is_a_failed_attempt(function, name):
    attempt = attempt_of(function)
    run(attempt, Board(1).writer(), Event(), nothing_to_await)
    assert end_of(attempt) == ("retry", name)


def naps(seconds: float) -> None:
    """In steps, between which an interrupt can come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)


def interrupted(function, reason, awaits=nothing_to_await, *, ours=True) -> Attempt:
    """The attempt, which was interrupted once while it ran."""
    attempt = attempt_of(function, ours=ours)
    thread = Thread(target=lambda: run(attempt, Board(1).writer(), Event(), awaits))
    thread.start()
    until(lambda: attempt.interrupt is not None)
    assert attempt.interrupt is not None
    assert attempt.interrupt(reason)
    thread.join(10)
    assert not thread.is_alive()
    return attempt


def swallows() -> str:
    with suppress(BaseException):
        naps(5)
    return "done"


def answers_with_an_error() -> None:
    try:
        naps(5)
    except BaseException:  # noqa: BLE001 - it must catch the interrupt
        raise ValueError("too late") from None


def lets_it_pass() -> None:
    naps(5)


def snoozes() -> Snooze:
    with suppress(BaseException):
        naps(5)
    return Snooze(timedelta(seconds=5))


def ended_before() -> str:
    time.sleep(0.3)
    return "done"


@pytest.mark.parametrize(
    ("function", "reason", "verb", "told"),
    [
        (lets_it_pass, TimeoutInterrupt, "retry", "the attempt took longer than its timeout of 2 s"),
        (swallows, TimeoutInterrupt, "retry", "it caught the interrupt and returned"),
        (answers_with_an_error, TimeoutInterrupt, "retry", "it caught the interrupt and raised ValueError"),
        (snoozes, TimeoutInterrupt, "snooze", None),
        (lets_it_pass, CancelInterrupt, "stop", "cancelled while running"),
        (swallows, CancelInterrupt, "stop", "cancelled while running"),
        (answers_with_an_error, CancelInterrupt, "stop", "cancelled while running"),
        (snoozes, CancelInterrupt, "stop", "cancelled while running"),
    ],
)
def test_a_swallowed_interrupt_decides_how_the_attempt_ends(function, reason, verb, told):
    attempt = interrupted(function, reason)
    assert end_of(attempt)[0] == verb
    assert attempt.finish is not None
    if told is not None:
        assert attempt.finish.error is not None
        assert attempt.finish.error.message.endswith(told)


@pytest.mark.parametrize(
    ("function", "reason", "end"),
    [
        (lets_it_pass, TimeoutInterrupt, ("retry", "TimedOut")),
        (swallows, TimeoutInterrupt, ("complete", None)),
        (answers_with_an_error, TimeoutInterrupt, ("retry", "ValueError")),
        (swallows, CancelInterrupt, ("stop", "Cancel")),
    ],
)
def test_a_plain_actor_that_catches_its_time_limit_ends_in_its_own_way(function, reason, end):
    attempt = interrupted(function, reason, ours=False)
    verb, error = end_of(attempt)
    assert (verb, error and error.removesuffix("led")) == end


def test_the_error_that_a_job_raised_because_of_its_timeout_is_in_the_traceback():
    attempt = interrupted(answers_with_an_error, TimeoutInterrupt)
    assert attempt.finish is not None
    assert attempt.finish.error is not None
    assert "ValueError: too late" in attempt.finish.error.traceback


def test_interrupts_at_the_very_end_of_a_job_never_undo_its_end():
    """Sent at every moment around the end: the job succeeded, unless the interrupt was raised inside it."""
    inside = 0
    for turn in range(300):
        seen: list[bool] = []

        def job(seen=seen) -> str:
            try:
                for _ in range(20):
                    time.sleep(0)
            except BaseException:
                seen.append(True)
                raise
            return "done"

        attempt = attempt_of(job)
        thread = Thread(target=run, args=(attempt, Board(1).writer(), Event(), nothing_to_await))
        thread.start()
        while attempt.finish is None:
            if (send := attempt.interrupt) is not None:
                for _ in range(turn % 60):
                    pass
                send(TimeoutInterrupt)
        thread.join(10)
        verb = end_of(attempt)[0]
        assert verb == ("retry" if seen else "complete") or (verb, seen) == ("retry", [])
        inside += bool(seen)
    print(f"{inside} of 300 were interrupted inside")


async def adds(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return 3


def run_on(stage: LoopStage, function) -> Attempt:
    attempt = attempt_of(function)
    run(attempt, stage.board_writer, stage.draining, stage.runner.await_value)
    return attempt


@pytest.mark.parametrize(
    "function", [lambda: adds(1, 2), wrapped(functools.partial(adds, 1, 2)), Awaitable],
    ids=["coroutine", "wrapped", "object"],
)  # fmt: skip
def test_what_a_sync_job_returns_to_be_awaited_is_awaited_and_gives_the_result(function):
    with loop_stage() as stage:
        attempt = run_on(stage, wrapped(function))
    assert end_of(attempt) == ("complete", None)
    assert attempt.finish is not None
    assert attempt.finish.result == b"3"
    assert stage.board.started() == []


def test_the_job_is_known_in_the_coroutine_that_a_sync_job_returns():
    async def which() -> str:
        await asyncio.sleep(0)
        return str(current_job().id)

    with loop_stage() as stage:
        attempt = run_on(stage, wrapped(which))
    assert attempt.finish is not None
    assert attempt.finish.result == f'"{attempt.job.id}"'.encode()


def test_a_coroutine_that_fails_fails_the_attempt_and_one_of_another_loop_too():
    async def fails() -> None:
        sys.exit(1)

    def of_another_loop() -> asyncio.Future[None]:
        loop = asyncio.new_event_loop()
        future = loop.create_future()
        loop.close()
        return future

    with loop_stage() as stage:
        assert end_of(run_on(stage, wrapped(fails))) == ("retry", "SystemExit")
        assert end_of(run_on(stage, of_another_loop)) == ("retry", "RuntimeError")
        assert end_of(run_on(stage, lambda: adds(1, 2))) == ("complete", None)


@pytest.mark.parametrize(("reason", "verb"), [(TimeoutInterrupt, "retry"), (CancelInterrupt, "stop")])
def test_interrupts_reach_what_a_sync_job_returned_to_be_awaited(reason, verb):
    started = Event()

    async def sleeps() -> None:
        started.set()
        await asyncio.sleep(60)

    with loop_stage() as stage:
        attempt = attempt_of(wrapped(sleeps))
        thread = Thread(
            target=run, args=(attempt, stage.board_writer, stage.draining, stage.runner.await_value)
        )
        thread.start()
        assert started.wait(60)
        assert attempt.interrupt is not None
        assert attempt.interrupt(reason)
        thread.join(10)
    assert end_of(attempt)[0] == verb
    assert attempt.finish is not None
    assert attempt.finish.error is not None
    told = "longer than its timeout" if reason is TimeoutInterrupt else "cancelled while running"
    assert told in attempt.finish.error.message
