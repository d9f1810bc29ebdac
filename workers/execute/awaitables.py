"""Whether a value that a job returned must still be awaited."""

from inspect import CO_ITERABLE_COROUTINE
from types import GeneratorType
from typing import Any


def is_awaitable(value: Any) -> bool:
    """Return whether a value is a coroutine, a Future, a Task, or another object with `__await__`.

    Every job's result is asked, so this costs less than `inspect.isawaitable`.
    """
    if hasattr(type(value), "__await__"):
        return True
    return isinstance(value, GeneratorType) and bool(value.gi_code.co_flags & CO_ITERABLE_COROUTINE)


async def awaited(value: Any) -> Any:
    """Return the result of an awaitable."""
    return await value
