"""Running async attempts: tasks on one event loop in one thread, as many as there are async slots."""

import asyncio
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import uvloop

from jobs.context import enter
from workers.attempt import Attempt
from workers.board import PutOnBoard
from workers.interrupts import JobInterrupt


class AsyncRunner(Thread):
    """The loop thread. `done` is called, from the loop, with each attempt that has ended."""

    def __init__(self, put_on_board: PutOnBoard, draining: Event, done: Callable[[Attempt], None]) -> None:
        super().__init__(name="callboard-async", daemon=True)
        self._put_on_board = put_on_board
        self._draining = draining
        self._done = done
        self._loop = uvloop.new_event_loop()
        # A task that nobody refers to may be collected while it runs.
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, attempt: Attempt) -> None:
        self._loop.call_soon_threadsafe(self._begin, attempt)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(timeout=2)

    def _begin(self, attempt: Attempt) -> None:
        task = self._loop.create_task(self._run(attempt), name=f"job {attempt.job.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, attempt: Attempt) -> None:
        if self._draining.is_set():
            attempt.unstarted = True
            self._done(attempt)
            return
        attempt.begin(self._put_on_board)
        interruption = Interruption(self._loop, asyncio.current_task())
        try:
            attempt.returned(await self._call(attempt, interruption))
        except asyncio.CancelledError as error:
            interruption.withdraw()
            attempt.raised(interruption.reason() if interruption.reason else error)
        except BaseException as error:  # noqa: BLE001 - whatever a job raises is how its attempt ended
            attempt.raised(error)
        finally:
            self._done(attempt)

    async def _call(self, attempt: Attempt, interruption: "Interruption") -> Any:
        args, kwargs = attempt.arguments()
        # A task has a context of its own, so the variable needs no resetting.
        enter(attempt.running)
        attempt.interrupt = interruption.send
        return await attempt.definition.call(*args, **kwargs)


class Interruption:
    """Cancels a task from another thread, once, and remembers why."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None] | None") -> None:
        self._loop = loop
        self._task = task
        self.reason: type[JobInterrupt] | None = None

    def send(self, interrupt: type[JobInterrupt]) -> bool:
        if self.reason is not None or self._task is None:
            return False
        self.reason = interrupt
        self._loop.call_soon_threadsafe(self._task.cancel)
        return True

    def withdraw(self) -> None:
        """The cancellation has been taken note of; the task goes on to report it."""
        if self._task is not None:
            self._task.uncancel()
