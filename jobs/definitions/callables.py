"""What a call of a job's callable starts: plain code, or a coroutine; and whether a job can be made of it.

Only layers that pass a call on unchanged are looked through: partials, methods, objects with `__call__`. What
another decorator wraps is not called by us but by the decorator, so its `__wrapped__` decides nothing here.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final, NamedTuple

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.fields import is_job_name

#: Deeper layers are not looked through. A real callable has a few.
_MOST_LAYERS: Final = 50
_CACHED: Final = type(functools.cache(lambda: None))
_PARTIAL_METHOD: Final = ("__partialmethod__", "_partialmethod")
_COROUTINE: Final = inspect.CO_COROUTINE
_GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def started_by(function: Any) -> Any:
    """Return the callable whose code a call of `function` starts: a plain function, if it is one in Python.

    Never an object that only claims to be a function, such as a proxy or a mock: its own code starts first.
    """
    return _layers(function)[-1][0]


def starts_coroutine(function: Any) -> bool:
    """Return whether a call only makes a coroutine, so that the job runs on the event loop.

    The code decides, and not a mark such as that of `inspect.markcoroutinefunction`: `functools.wraps` copies
    marks to wrappers. All others run in a thread; what they return may be awaitable.
    """
    started = started_by(function)
    return type(started) is FunctionType and bool(started.__code__.co_flags & _COROUTINE)


def check_callable(function: Any, *, what: str) -> None:
    """Raise InvalidInput for a callable whose call does not run its code.

    what: names the job in the error.
    """
    started = started_by(function)
    cached = isinstance(started, _CACHED)
    if cached:
        started = started_by(started.__wrapped__)
    if _is_generator(started):
        raise InvalidInput(
            f"{what} is a generator: calling it would run none of its code;"
            " use return in place of yield, or make a job of a function that loops over it"
        )
    if cached and starts_coroutine(started):
        raise InvalidInput(
            f"{what} caches a coroutine, which can run only once;"
            " put functools.cache around a plain function, or cache the result inside the job"
        )


def check_decorated(function: Any) -> None:
    """Raise InvalidInput when `@job` decorates something that is no function."""
    if isinstance(function, str):
        raise InvalidInput(
            f"@job decorates a function; options are given by name, such as @job(queue={function[:100]!r})"
        )
    if isinstance(function, classmethod | functools.partialmethod):
        raise InvalidInput(
            f"a {type(function).__name__} has no class yet inside of the class body;"
            " call job() with the method after the class: job(TheClass.method)"
        )
    if not callable(function):
        raise InvalidInput(f"@job decorates a function, not {_shown(function)}")
    if isinstance(function, type):
        raise InvalidInput(
            f"@job decorates a function, and {function.__qualname__} is a class; decorate a function that"
            " uses the class, or call job(name=...) with an instance that has __call__"
        )


def name_of(function: Any, given: str | None) -> str:
    """Return the job's name: the given one, or the function's. Raises InvalidInput when there is none."""
    name = getattr(function, "__name__", None) if given is None else given
    if not isinstance(name, str) or name == "<lambda>":
        what = "a lambda" if name == "<lambda>" else _shown(function)
        raise InvalidInput(f"{what} has no name for the job; give it one: job(name=...)")
    if not is_job_name(name):
        raise InvalidInput(
            f"{name[:100]!r} is no name for a job; give it another one: job(name=...)",
            fields={"name": "not a job name"},
        )
    return name


def own_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of the callable itself, not of what it wraps. Raises TypeError or ValueError."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        # functools.cache and decorators in C have no signature of their own, and pass the call on.
        return inspect.signature(function)


class Wrapped(NamedTuple):
    """The function that a decorator wraps, and the arguments that layers around the wrapper fill in."""

    function: Callable[..., Any]
    positions: int
    names: frozenset[str]


def wrapped_by(function: Any) -> Wrapped | None:
    """Return what a decorator's wrapper in Python wraps; None when there is no wrapper.

    A wrapper with a `__signature__` describes itself.
    """
    layers = _layers(function)
    started = layers[-1][0]
    if type(started) is not FunctionType or "__signature__" in vars(started):
        return None
    inner = getattr(started, "__wrapped__", None)
    if not callable(inner):
        return None
    names = [layer.keywords for layer, _ in layers if type(layer) is functools.partial]
    return Wrapped(inner, sum(filled for _, filled in layers), frozenset().union(*names))


def _layers(function: Any) -> list[tuple[Any, int]]:
    """Return the callable and what it calls, from the outermost layer to the code that starts first.

    With each layer comes the number of arguments that it fills in by position.
    """
    layers = []
    for _ in range(_MOST_LAYERS):
        inner, filled = _inner(function)
        layers.append((function, filled))
        if inner is function:
            break
        function = inner
    return layers


def _inner(function: Any) -> tuple[Any, int]:
    """Return what a layer calls, and how many arguments it fills in by position.

    Returns the function itself if it is no layer.
    """
    kind = type(function)
    if kind is FunctionType:
        for name in _PARTIAL_METHOD:
            method = vars(function).get(name)
            if isinstance(method, functools.partialmethod):
                return method.func, len(method.args)
        return function, 0
    if kind is functools.partial:
        return function.func, len(function.args)
    if kind is MethodType:
        return function.__func__, 1
    if kind is staticmethod:
        return function.__func__, 0
    call = getattr(kind, "__call__", None)  # noqa: B004 - the method itself is wanted
    return (call, 1) if type(call) is FunctionType else (function, 0)


def _is_generator(function: Any) -> bool:
    if type(function) is not FunctionType:
        return False
    flags = function.__code__.co_flags
    # A call of a function of `types.coroutine` makes something that can be awaited.
    return bool(flags & _GENERATOR) and not flags & inspect.CO_ITERABLE_COROUTINE


def _shown(value: Any) -> str:
    return f"{value!r:.100}"
