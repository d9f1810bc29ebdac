"""The running job of this thread or task. `current_job()` and the source of an enqueue read this variable."""

from contextvars import ContextVar
from typing import Final, Protocol
from uuid import UUID

from callboard.jobs.model.job import Source


class Running(Protocol):
    """A job that this thread or task runs (attempts/context.py)."""

    @property
    def id(self) -> UUID: ...
    @property
    def ended(self) -> bool: ...


running_here: Final[ContextVar[Running | None]] = ContextVar("callboard_current_job", default=None)

_PYTHON: Final = Source("python")


def current_source() -> Source:
    """Return the source of an enqueue from this thread or task: the running job, or plain Python.

    After the job's end, and in a copy of its process that it forked, the source is plain Python.
    """
    running = running_here.get()
    return _PYTHON if running is None or running.ended else Source("job", str(running.id))
