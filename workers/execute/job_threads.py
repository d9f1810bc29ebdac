"""Threads that a job starts belong to the job: its lines are theirs, and `current_job()` works in them."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from callboard.jobs.attempts.context import RunningJob, enter, leave, running_job

_start: Final = threading.Thread.start
_submit: Final = ThreadPoolExecutor.submit


def follow() -> None:
    """From now on, pass the running job on to threads and to calls in thread pools."""
    threading.Thread.start = _start_with_job  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _submit_with_job  # type: ignore[method-assign, assignment]


def _start_with_job(self: threading.Thread) -> None:
    running = running_job()
    if running is not None:
        run = self.run

        def run_with_job() -> None:
            enter(running)
            run()

        self.run = run_with_job  # type: ignore[method-assign]
    _start(self)


def _submit_with_job(
    self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> "Future[Any]":
    # Also without a job: the pool's thread may have been started by one.
    return _submit(self, _call_with_job, running_job(), fn, args, kwargs)


def _call_with_job(
    running: RunningJob | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    token = enter(running)
    try:
        return fn(*args, **kwargs)
    finally:
        leave(token)
