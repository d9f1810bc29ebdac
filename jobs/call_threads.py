"""A few threads that run the blocking calls of coroutines."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import Final, ParamSpec, TypeVar

from callboard.jobs.errors import Unavailable
from callboard.jobs.loop_calls import ClientClosed

P = ParamSpec("P")
R = TypeVar("R")

#: How many calls may wait for a thread or be in one.
_MOST_WAITING: Final = 10_000


class CallThreads:
    """Runs blocking calls in up to `count` threads. A call that is cancelled goes on to its end.

    A call that is cancelled before it has a thread does not run.
    """

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._waiting = 0
        self._refusing = False

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the call returns. It runs in a copy of the caller's context.

        Raises Unavailable if too many calls wait.
        """
        if self._waiting >= _MOST_WAITING:
            raise Unavailable(f"{_MOST_WAITING} calls of this client wait already; try again")
        inside = copy_context()
        self._waiting += 1
        try:
            # A thread serves all callers, so it must not belong to the job that the first one runs.
            future: Future[R] = Context().run(
                self._executor.submit, partial(inside.run, self._call, partial(call, *args, **kwargs))
            )
            return await asyncio.wrap_future(future)
        finally:
            self._waiting -= 1

    def refuse(self) -> None:
        """Let each call that has no thread yet raise ClientClosed."""
        self._refusing = True

    def close(self) -> None:
        """Wait for the calls that run, and end the threads."""
        self._executor.shutdown()

    def _call(self, call: Callable[[], R]) -> R:
        if self._refusing:
            raise ClientClosed("this client was closed before this call was made")
        return call()
