"""Carrying a running job into code that other threads and tasks run."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from callboard.jobs.definitions.callables import starts_coroutine
from callboard.jobs.model.current import Running, running_here

P = ParamSpec("P")
R = TypeVar("R")


def carry(function: Callable[P, R], /) -> Callable[P, R]:
    """Return the function as a part of the job that runs here, for a thread or task that serves others too.

    The function then runs in a copy of the present context, wherever it is called: `current_job()` is this
    job, and other context variables have their present values. After the job's end, `current_job()` raises
    JobEnded in it. Outside of a job, only the other context variables are carried.

    Example: `pool.submit(carry(resize), path)`.
    """
    context = copy_context()
    if starts_coroutine(function):

        @wraps(function)
        async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
            coroutine = cast("Any", function)(*args, **kwargs)
            return await asyncio.get_running_loop().create_task(coroutine, context=context.copy())

        return cast("Callable[P, R]", run_coroutine)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # A copy for each call, because threads may call the function at the same time.
        return context.copy().run(function, *args, **kwargs)

    return run


def run_within(running: Running | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function as a part of this job, and in the context that is here otherwise."""
    token = running_here.set(running)
    try:
        return function(*args, **kwargs)
    finally:
        running_here.reset(token)
