"""The running job of this thread or task. `current_job()` and the source of an enqueue read this variable."""

from contextvars import ContextVar, Token
from typing import Final, Protocol
from uuid import UUID

from callboard.jobs.model.job import Source


class Running(Protocol):
    """A job that this thread or task runs (attempts/context.py)."""

    @property
    def id(self) -> UUID: ...

    @property
    def request_id(self) -> str | None: ...

    #: Whether its function has ended. It is set on the instance.
    ended: bool


running_here: Final[ContextVar[Running | None]] = ContextVar("callboard_current_job", default=None)

_PYTHON: Final = Source("python")


def current_source() -> Source:
    """Return the source of an enqueue from this thread or task: the running job, or plain Python.

    After the job's end, and in a copy of its process that it forked, the source is plain Python.
    """
    running = running_here.get()
    if running is None or running.ended:
        return _PYTHON
    return Source("job", str(running.id), running.request_id)


def enter(job: Running | None) -> Token[Running | None]:
    """Make this the job that runs here. The worker calls it before a job's function.

    A job that was left may be entered again: what a function in a thread returned is awaited on the loop.
    """
    if job is not None and job.ended:
        job.ended = False
    return running_here.set(job)


def leave(job: Running | None, token: Token[Running | None]) -> None:
    """End the use of the job that runs here, in all threads and tasks that it started.

    The worker calls it after a job's function. A coroutine that is closed from outside of its task ends in
    another context, which is left as it is.
    """
    if job is not None:
        job.ended = True
    try:  # noqa: SIM105 - each job comes here, and `suppress` costs more
        running_here.reset(token)
    except ValueError:
        pass
