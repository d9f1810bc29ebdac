"""Whether a value that a job returned must still be awaited."""

from inspect import CO_ITERABLE_COROUTINE
from types import GeneratorType
from typing import Any, Final

# Read past the classes' own code, which may raise anything.
_bases: Final = vars(type)["__mro__"].__get__
_members: Final = vars(type)["__dict__"].__get__


def is_awaitable(value: Any) -> bool:
    """Return whether a value is a coroutine, a Future, a Task, or another object with `__await__`.

    Every job's result is asked, so this costs less than `inspect.isawaitable`.
    """
    kind = type(value)
    if any("__await__" in _members(base) for base in _bases(kind)):
        return True
    return kind is GeneratorType and bool(value.gi_code.co_flags & CO_ITERABLE_COROUTINE)


async def awaited(value: Any) -> Any:
    """Return the result of an awaitable."""
    return await value
