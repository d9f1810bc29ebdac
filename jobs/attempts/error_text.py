"""The texts of an exception that are stored with the job: its class, its message and its traceback.

The exception may be of any kind: its own code may raise, exit or sleep, and its texts may have any size.
"""

import builtins
import traceback
from datetime import timedelta
from typing import Any, Final, NamedTuple

from callboard.jobs.attempts.users_code import UsersCodeFailed, bounded
from callboard.jobs.model.basics.json_values import storable
from callboard.jobs.model.basics.plain_text import class_path, plain_text, shortened, shortened_to_end
from callboard.jobs.model.outcomes import Cancel, Fail, Outcome, Retry, Snooze

LONGEST_CLASS: Final = 200
LONGEST_MESSAGE: Final = 2_000
LONGEST_TRACEBACK: Final = 16_000
_LONGEST_PROBLEM: Final = 600
#: The innermost frames that a traceback shows.
_FRAMES: Final = -30
#: An exception with more causes, or a longer text, is read in a thread of its own.
_FEW: Final = 20
_SHORT: Final = 10_000
#: The causes and members of groups that a traceback may have. A traceback of all of a group in which the same
#: members are repeated, or of a million causes, would take all memory.
_MOST_LINKED: Final = 2_500
_TOO_MANY: Final = f"the traceback leaves out more than {_MOST_LINKED:,} causes and members of groups"


# What the interpreter holds. A class or a metaclass may define others of the same names.
_CAUSE: Final[Any] = vars(BaseException)["__cause__"].__get__
context_of: Final[Any] = vars(BaseException)["__context__"].__get__
_TRACEBACK: Final[Any] = vars(BaseException)["__traceback__"].__get__
_ARGS: Final[Any] = vars(BaseException)["args"].__get__
_MEMBERS: Final[Any] = vars(BaseExceptionGroup)["exceptions"].__get__
_MRO: Final[Any] = vars(type)["__mro__"].__get__
_CONTENTS: Final[Any] = vars(type)["__dict__"].__get__
_QUALNAME: Final[Any] = vars(type)["__qualname__"].__get__

#: Classes whose texts are made of `args` alone. For names and attributes that do not exist, Python looks for
#: similar ones, in the user's objects too.
_PLAIN_KINDS: Final = {object, Outcome, Retry, Snooze, Cancel, Fail, KeyError} | {
    kind
    for kind in vars(builtins).values()
    if isinstance(kind, type)
    and issubclass(kind, BaseException)
    and kind.__str__ is BaseException.__str__
    and not issubclass(kind, AttributeError | NameError)
}
#: A class that defines one of these runs code of its own when its texts are read.
_CHANGES_TEXT: Final = frozenset(
    {
        "__str__", "__repr__", "__getattribute__", "__getattr__", "__class__", "__dict__", "__bool__",
        "__len__", "__eq__", "__hash__", "__cause__", "__context__", "__suppress_context__",
        "__traceback__", "__notes__", "args", "delay", "reason",
    }
)  # fmt: skip
_PLAIN_VALUES: Final = frozenset({int, float, bool, type(None), timedelta})


class ErrorText(NamedTuple):
    """The texts, as Postgres can store them. `problems`: what could not be read, for people."""

    error_class: str
    message: str
    traceback: str
    problems: tuple[str, ...] = ()


def error_text(error: BaseException, *, with_traceback: bool = True) -> ErrorText:
    """Return the texts of an exception. Takes two seconds at most, if its own code does not return."""
    name = class_name(type(error))
    with_links = with_traceback and not _has_too_many(error)
    problems: tuple[str, ...] = (_TOO_MANY,) if with_traceback and not with_links else ()
    own_thread = runs_own_code(error)
    message = ""
    trace: str | None = None
    try:
        message = bounded(lambda: plain_text(error), own_thread=own_thread)
        if with_links and len(message) <= LONGEST_TRACEBACK // 2:
            trace = bounded(lambda: _traceback(error), own_thread=own_thread)
    except UsersCodeFailed as failed:
        if not message and all(type(value) is str for value in _ARGS(error)):
            message = BaseException.__str__(error)
        problems += (f"the text of the exception could not be read: {failed}",)
    message = shortened(message, LONGEST_MESSAGE)
    if trace is None and with_traceback:
        # The frames alone. They do not need the exception's own code, and a long message leaves no room for
        # more.
        trace = f"Traceback (most recent call last):\n{_frames(error)}{name}: {message}\n"
    return ErrorText(
        name,
        _stored(message),
        # The end of a traceback has the most useful lines.
        _stored(shortened_to_end(trace or "", LONGEST_TRACEBACK)),
        problems,
    )


def is_readable(error: BaseException) -> bool:
    """Return whether others can log an exception and compare its class. Its own code may prevent that."""
    if not runs_own_code(error):
        return True
    if _has_too_many(error):
        return False
    try:
        bounded(lambda: (_traceback(error), isinstance(error, ErrorText)), own_thread=True)
    except UsersCodeFailed:
        return False
    return True


def with_problems(message: str, problems: tuple[str, ...]) -> str:
    """Return the message of an error with what else failed, one line each, within the same limit."""
    if not problems:
        return message
    added = _stored(shortened("".join(f"\n[Callboard: {one}]" for one in problems), _LONGEST_PROBLEM))
    return (shortened(message, LONGEST_MESSAGE - len(added)) + added).lstrip("\n")


def class_name(kind: type[BaseException]) -> str:
    """Return the name that is stored for an error: a fixed name for our classes, else the class path."""
    path = class_path(kind)
    if path.startswith("callboard."):
        fixed = _CONTENTS(kind).get("stored_as")
        if type(fixed) is str:
            return fixed
    return _stored(shortened(path, LONGEST_CLASS))


def runs_own_code(error: BaseException) -> bool:
    """Return whether reading an exception's texts may run code of the user's, or may take long."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if len(seen) > _FEW or not _is_plain(one):
            return True
        waiting += [linked for linked in (_CAUSE(one), context_of(one)) if linked is not None]
    return False


def _has_too_many(error: BaseException) -> bool:
    """Return whether a traceback would show too many causes and members of groups.

    It shows a member as often as it is in a group, and a cause once.
    """
    seen: set[int] = set()
    waiting = [error]
    count = 0
    while waiting:
        one = waiting.pop()
        count += 1
        members = _MEMBERS(one) if issubclass(type(one), BaseExceptionGroup) else ()
        if count + len(waiting) + len(members) > _MOST_LINKED:
            return True
        waiting += members
        if id(one) not in seen:
            seen.add(id(one))
            waiting += [linked for linked in (_CAUSE(one), context_of(one)) if linked is not None]
    return False


def _is_plain(error: BaseException) -> bool:
    kind = type(error)
    for base in _MRO(kind):
        if type(base) is not type or type(_QUALNAME(base)) is not str:
            return False
        if base not in _PLAIN_KINDS and not _CONTENTS(base).keys().isdisjoint(_CHANGES_TEXT):
            return False
    # For these classes, the attributes are what the interpreter holds.
    values: list[Any] = [*error.args]
    if issubclass(kind, Outcome) or hasattr(error, "__notes__"):
        values += [
            one for value in vars(error).values() for one in (value if type(value) is list else [value])
        ]
    return len(values) <= _FEW and all(map(_is_plain_value, values))


def _is_plain_value(value: Any) -> bool:
    return len(value) <= _SHORT if type(value) is str else type(value) in _PLAIN_VALUES


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=_FRAMES))


def _frames(error: BaseException) -> str:
    try:
        return bounded(
            lambda: "".join(traceback.format_tb(_TRACEBACK(error), limit=_FRAMES)), own_thread=False
        )
    except UsersCodeFailed as failed:  # the loader of the user's module reads its lines
        return f"  (the frames could not be read: {failed})\n"


def _stored(text: str) -> str:
    return storable(text, len(text))
