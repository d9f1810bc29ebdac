"""How an attempt ends whose job caught an interrupt and went on."""

from asyncio import CancelledError
from typing import Any

from callboard.jobs.model.basics.plain_text import class_path
from callboard.jobs.model.outcomes import Outcome
from callboard.workers.execute.interrupts import CancelInterrupt, JobInterrupt, TimeoutInterrupt


def end_of(reason: type[JobInterrupt], value: Any, error: BaseException | None) -> BaseException | None:
    """Return what an attempt ended with after this interrupt was raised inside its job's function.

    value, error: what the function returned or raised at last.

    A job that swallows its timeout has timed out, and one that swallows a cancellation is cancelled, whatever
    it returned or raised afterwards. Its own error becomes the context.
    """
    # The class itself is asked: `isinstance` may call code of the exception's own.
    kind = type(value if error is None else error)
    if issubclass(kind, reason) or not _decides(reason, kind):
        return error
    interrupt = reason()
    if error is None:
        interrupt.caught = "returned"
    elif not issubclass(kind, CancelledError | JobInterrupt):
        interrupt.caught = f"raised {class_path(kind)}"
        interrupt.__context__ = error
    return interrupt


def _decides(reason: type[JobInterrupt], kind: type[Any]) -> bool:
    if issubclass(kind, JobInterrupt | CancelledError):
        return True
    if reason is TimeoutInterrupt:
        # A job that answers its timeout with Retry, Snooze, Cancel or Fail says how to go on.
        return not issubclass(kind, Outcome)
    # A job may catch the end of the grace period to finish in time.
    return reason is CancelInterrupt
