"""The event loop of a worker outlives what its jobs do to it; each attempt ends once, with a true end."""

import asyncio
import gc
import sys
import time
from collections import Counter

import pytest
import uvloop

from callboard.workers.execute.interrupts import CancelInterrupt, TimeoutInterrupt
from tests.unit.attempts import attempt_of, end_of, loop_stage, until


async def good() -> None:
    await asyncio.sleep(0)


async def exits() -> None:
    sys.exit(1)


async def presses_ctrl_c() -> None:
    raise KeyboardInterrupt


async def raises_generator_exit() -> None:
    raise GeneratorExit


class OwnExit(BaseException):
    pass


async def raises_its_own() -> None:
    raise OwnExit


async def raises_cancelled() -> None:
    raise asyncio.CancelledError


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def group_cancels_itself() -> None:
    async with asyncio.TaskGroup() as group:
        task = asyncio.current_task()
        assert task is not None
        group.create_task(asyncio.sleep(5))
        task.cancel()


async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


async def closes_the_loop() -> None:
    asyncio.get_running_loop().close()


async def ends_the_executor() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()


async def exits_in_a_task() -> None:
    await asyncio.create_task(exits())


FAILURES = {
    exits: "SystemExit", presses_ctrl_c: "KeyboardInterrupt", raises_generator_exit: "GeneratorExit",
    raises_its_own: "OwnExit", raises_cancelled: "CancelledError", cancels_itself: "CancelledError",
    group_cancels_itself: "CancelledError", stops_the_loop: "RuntimeError", closes_the_loop: "RuntimeError",
    ends_the_executor: "RuntimeError", exits_in_a_task: "SystemExit",
}  # fmt: skip


@pytest.mark.parametrize("function", FAILURES, ids=lambda function: function.__name__)
def test_an_async_job_that_ends_oddly_is_a_failed_attempt_and_the_loop_goes_on(function):
    with loop_stage(at_once=2) as stage:
        odd = [attempt_of(function) for _ in range(20)]
        stage.run(*odd)
        assert Counter(map(end_of, odd)) == {("retry", FAILURES[function]): 20}
        after = [attempt_of(good) for _ in range(200)]
        stage.run(*after)
        assert Counter(map(end_of, after)) == {("complete", None): 200}
        assert len(stage.done) == 220
        assert stage.board.started() == []


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), OwnExit()])
def test_a_callback_or_a_task_left_behind_that_exits_harms_nobody(error):
    async def leaves_them() -> None:
        def callback() -> None:
            raise error

        async def task() -> None:
            await asyncio.sleep(0)
            raise error

        loop = asyncio.get_running_loop()
        loop.call_soon(callback)
        kept.append(loop.create_task(task()))

    kept: list[object] = []
    with loop_stage() as stage:
        beside = [attempt_of(lambda: asyncio.sleep(0.1)) for _ in range(2)]
        for attempt in beside:
            object.__setattr__(attempt.definition, "is_async", True)
        left = [attempt_of(leaves_them) for _ in range(5)]
        stage.run(*left, *beside, *[attempt_of(good) for _ in range(20)])
        assert Counter(map(end_of, stage.done)) == {("complete", None): 27}


def test_a_job_that_cancels_all_tasks_reaches_no_other_job():
    async def cancels_all() -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0.05)

    with loop_stage() as stage:
        every = [attempt_of(cancels_all) for _ in range(10)]
        stage.run(*every)
        assert Counter(map(end_of, every)) == {("complete", None): 10}


def test_tasks_that_are_cancelled_before_their_first_step_give_failed_attempts_and_free_their_slots():
    async def cancels_the_workers_tasks() -> None:
        for task in stage.runner._running:
            task.cancel()

    with loop_stage() as stage:
        every = [attempt_of(cancels_the_workers_tasks) for _ in range(10)]
        stage.run(*every)
        ends = Counter(map(end_of, every))
        assert ends == {("complete", None): 1, ("retry", "CancelledError"): 9}
        assert len(stage.done) == 10
        stage.run(attempt_of(good))


def test_a_loop_that_was_stopped_or_closed_by_force_is_started_again():
    async def stops_by_force() -> None:
        uvloop.Loop.stop(asyncio.get_running_loop())
        await asyncio.sleep(0.01)

    with loop_stage() as stage:
        stage.run(*[attempt_of(stops_by_force) for _ in range(3)], attempt_of(good))
        assert {end_of(attempt) for attempt in stage.done} == {("complete", None)}
        old = stage.runner._loop
        sleeper = attempt_of(lambda: asyncio.sleep(60))
        stage.runner.submit([sleeper])
        until(lambda: sleeper.interrupt is not None)

        work, closed = stage.runner.work, []

        def work_on_a_closed_loop() -> None:
            if not closed:
                closed.append(True)
                uvloop.Loop.close(old)
            work()

        stage.runner.work = work_on_a_closed_loop
        old.call_soon_threadsafe(lambda: uvloop.Loop.stop(old))
        until(lambda: sleeper in stage.done)
        assert end_of(sleeper) == ("retry", "LoopEnded")
        stage.run(attempt_of(good))
    # The sleeper's task never ends. It is destroyed here, not in the middle of a later test.
    gc.collect()


async def swallows() -> str:
    for _ in range(3):
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            continue
    return "done"


async def answers_with_an_error() -> None:
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        raise ValueError("too late") from None


@pytest.mark.parametrize(
    ("function", "reason", "end", "told"),
    [
        (swallows, TimeoutInterrupt, ("retry", "TimedOut"), "it caught the interrupt and returned"),
        (answers_with_an_error, TimeoutInterrupt, ("retry", "TimedOut"), "and raised ValueError"),
        (swallows, CancelInterrupt, ("stop", "Cancel"), "cancelled while running"),
        (answers_with_an_error, CancelInterrupt, ("stop", "Cancel"), "cancelled while running"),
    ],
)
def test_an_async_job_that_swallows_an_interrupt_is_recorded_as_interrupted(function, reason, end, told):
    with loop_stage() as stage:
        attempt = attempt_of(function)
        stage.runner.submit([attempt])
        until(lambda: attempt.interrupt is not None)
        assert attempt.interrupt is not None
        attempt.interrupt(reason)
        until(lambda: attempt in stage.done)
        assert (verb := end_of(attempt)[0]) == end[0], verb
        assert attempt.finish is not None
        assert attempt.finish.error is not None
        assert end[1] in attempt.finish.error.error_class
        assert told in attempt.finish.error.message
        if reason is TimeoutInterrupt and function is answers_with_an_error:
            assert "ValueError: too late" in attempt.finish.error.traceback


def test_an_interrupt_that_comes_when_an_async_job_has_ended_changes_nothing():
    async def blocks_and_returns() -> str:
        time.sleep(0.3)  # noqa: ASYNC251 - an interrupt cannot come here
        return "done"

    with loop_stage() as stage:
        attempt = attempt_of(blocks_and_returns)
        stage.runner.submit([attempt])
        until(lambda: attempt.interrupt is not None)
        assert attempt.interrupt is not None
        attempt.interrupt(TimeoutInterrupt)
        until(lambda: attempt in stage.done)
        assert end_of(attempt) == ("complete", None)


def test_the_loop_names_the_job_that_holds_it():
    async def holds() -> None:
        time.sleep(0.5)  # noqa: ASYNC251 - this is what it is for

    with loop_stage() as stage:
        attempt = attempt_of(holds)
        stage.runner.submit([attempt])
        until(lambda: attempt.interrupt is not None)
        assert stage.runner.unanswered(1.0) == 0.0
        assert stage.runner.unanswered(3.5) == 2.5
        assert stage.runner.current() is attempt
        until(lambda: attempt in stage.done)
        until(lambda: stage.runner.unanswered(9.0) == 0.0)
