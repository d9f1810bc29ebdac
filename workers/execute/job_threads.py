"""Threads that jobs start: `current_job()` works in them, because they belong to the job that starts them.

A new thread has an empty context up to Python 3.13. So the worker extends two methods of the standard
library, as OpenTelemetry does: `Thread.start` and `ThreadPoolExecutor.submit`. Both do the same as before
when no job calls them.

- A thread of `threading`, a `Timer` or a subclass belongs to the job that starts it.
- The threads of the standard library's pools serve whatever job gives them work, so they belong to none.
  Work that is given to a ThreadPoolExecutor belongs to the job that submits it.
- All else starts outside of a job: `multiprocessing.pool.ThreadPool`, `_thread.start_new_thread`, threads
  that C code starts. There, work needs `callboard.carry`.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from threading import Thread
from typing import Any, Final, cast

from callboard.jobs.attempts.carrying import run_within
from callboard.jobs.model.current import running_here

#: The packages of the standard library whose threads serve several callers.
_POOLS: Final = ("concurrent", "multiprocessing")


def carry_jobs_into_threads() -> None:
    """From now on, the threads that a job starts belong to it. Call it once."""
    start, submit = Thread.start, ThreadPoolExecutor.submit

    @wraps(start)
    def start_within(self: Thread) -> None:
        running = running_here.get()
        if running is None:
            start(self)
        elif _serves_others(self):
            # Since Python 3.14 a thread may inherit the context.
            run_within(None, start, self)
        else:
            run = self.run

            def run_in_job() -> None:
                vars(self).pop("run", None)
                # It stays until the thread ends: `threading.excepthook` runs after this.
                running_here.set(running)
                run()

            self.run = run_in_job  # type: ignore[method-assign]
            start(self)

    @wraps(cast("Callable[..., Any]", submit))
    def submit_within(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        running = running_here.get()
        if running is None:
            return submit(self, fn, *args, **kwargs)
        return submit(self, run_within, running, fn, *args, **kwargs)

    Thread.start = start_within  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_within  # type: ignore[assignment, method-assign]


def _serves_others(thread: Thread) -> bool:
    """Return whether a thread belongs to a pool: by its class, or by the function that it runs."""
    target = getattr(thread, "_target", None)
    modules = (type(thread).__module__, getattr(target, "__module__", None))
    return any((module or "").partition(".")[0] in _POOLS for module in modules)
