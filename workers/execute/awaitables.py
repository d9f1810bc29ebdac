"""Whether a value that a job returned must still be awaited."""

from collections.abc import Callable
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
    for base in _bases(kind):
        if "__await__" in _members(base):
            # None: the class says that it is not awaitable.
            return _members(base)["__await__"] is not None
    return kind is GeneratorType and bool(value.gi_code.co_flags & CO_ITERABLE_COROUTINE)


async def awaited(value: Any, at_end: Callable[[], object]) -> Any:
    """Return the result of an awaitable. `at_end` is called when it has ended in any way."""
    try:
        return await value
    finally:
        at_end()
