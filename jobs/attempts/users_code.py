"""Calls of users' code whose failure must not become ours: texts of exceptions, retry strategies.

Such code may raise anything, exit, or never return. It runs in a thread of its own for a bounded time.
"""

from collections.abc import Callable
from contextvars import copy_context
from threading import Thread
from typing import Final, Generic, TypeVar

from callboard.jobs.model.basics.plain_text import class_path

T = TypeVar("T")

#: How long a call may take. Seconds.
_LONGEST: Final = 1.0
#: The time is counted in so many waits. A wait that another job delays, by holding the interpreter lock,
#: counts once.
_WAITS: Final = 10
#: So many calls that do not return may exist. Each has a thread. Further calls are refused.
_MOST_ENDLESS: Final = 20
_endless: Final[list[Thread]] = []


class UsersCodeFailed(Exception):
    """A call of users' code raised an exception, or took too long. The message says which."""


def bounded(run: Callable[[], T], *, own_thread: bool) -> T:
    """Return what `run` returns. Raises UsersCodeFailed when it raises anything, or takes over a second.

    own_thread: False when `run` calls no code of the user's; it then runs in this thread.
    """
    call = _Call(run)
    if own_thread:
        _run_in_thread(call)
    else:
        call()
    return call.result()


def _run_in_thread(call: "_Call[T]") -> None:
    _endless[:] = [thread for thread in _endless if thread.is_alive()]
    if len(_endless) >= _MOST_ENDLESS:
        raise UsersCodeFailed(f"not called, because {len(_endless)} earlier calls have not returned")
    thread = Thread(target=copy_context().run, args=(call,), name="callboard-users-code", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the process has as many threads as it may have
        raise UsersCodeFailed(f"not called: {error}") from None
    for _ in range(_WAITS):
        thread.join(_LONGEST / _WAITS)
        if not thread.is_alive():
            return
    if thread.is_alive():
        _endless.append(thread)


class _Call(Generic[T]):
    """One call and what it returned or raised."""

    __slots__ = ("_problem", "_run", "_value")

    def __init__(self, run: Callable[[], T]) -> None:
        self._run = run
        self._value: list[T] = []
        self._problem = f"it took longer than {_LONGEST:g} s"

    def __call__(self) -> None:
        try:
            self._value.append(self._run())
        except UsersCodeFailed as error:
            self._problem = str(error)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, and may exit
            self._problem = f"it raised {class_path(type(error))[:200]}"

    def result(self) -> T:
        if not self._value:
            raise UsersCodeFailed(self._problem)
        return self._value[0]
