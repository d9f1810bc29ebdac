"""A job's arguments: checked against the published schema at the enqueue, and converted in the worker."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pydantic_core
from pydantic import ValidationError

from callboard.jobs.definitions.argument_errors import (
    describe_pydantic,
    refused,
)
from callboard.jobs.definitions.signatures import (
    ArgumentSpec,
    adapter_of,
    describe,
    passed_on,
    read_parameters,
)
from callboard.jobs.model.basics.call_shape import MOST_FIELDS, Shape, root_of
from callboard.jobs.model.basics.json_values import encode

__all__ = ["ArgumentBinder", "ArgumentSpec", "describe", "encode"]

#: For these annotations, validating the parsed value gives the same result as validating its JSON.
_PLAIN: Final = (
    int,
    str,
    float,
    bool,
    dict,
    list,
    dict[str, Any],
    list[Any],
    dict[str, str],
    list[str],
    list[int],
)


class ArgumentBinder:
    """Converts stored arguments to the values that the job's function is called with.

    coerce: True: validate each value and convert it to its annotated type (datetime, UUID, models, Enum ...).
            False: check the names only, and pass the values as JSON has them.

    A decorator's wrapper gets all that it takes. A value that it takes by `*args` or `**kwargs` is converted
    to the annotated type of the wrapped function's parameter if it fits, and passed unchanged if not.
    """

    def __init__(self, function: Callable[..., Any], *, coerce: bool) -> None:
        parameters = read_parameters(function)
        readers = {name: _reader(item.annotation) if coerce else None for name, item in parameters.items()}
        others = {item.kind: readers[name] for name, item in parameters.items()}
        self._shape = Shape.of(parameters)
        self._reads_nothing = not any(readers.values())
        self._positional = [readers[name] for name in self._shape.positional]
        self._more_positional = others.get(inspect.Parameter.VAR_POSITIONAL)
        self._named = {name: readers[name] for name in self._shape.named}
        self._more_named = others.get(inspect.Parameter.VAR_KEYWORD)
        passed = passed_on(function, parameters) if coerce else {}
        hints = {name: _lenient(_reader(item.annotation)) for name, item in passed.items()}
        self._passed = Shape.of(passed)
        self._passed_positional = (
            [] if self._positional else [hints[name] for name in self._passed.positional]
        )
        self._named |= {name: hints[name] for name in self._passed.named}
        self._reads_nothing = self._reads_nothing and not any(hints.values())

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the named values for the call. Raises InvalidArguments.

        If a validator in the user's own types raises anything but ValueError or AssertionError, that
        exception is passed on unchanged.
        """
        fields = self._shape.problems(len(args), kwargs)
        if fields:
            raise refused(fields)
        if self._reads_nothing:
            return tuple(args), dict(kwargs)
        readers = self._positional
        if self._passed_positional and not self._passed.problems(len(args), kwargs):
            # The wrapped function takes exactly these arguments, so they belong to its parameters.
            readers = self._passed_positional
        known = len(readers)
        positional = [
            _read(readers[index] if index < known else self._more_positional, value, index, fields)
            for index, value in enumerate(args)
        ]
        named = {
            name: _read(self._named.get(name, self._more_named), value, name, fields)
            for name, value in kwargs.items()
        }
        if fields:
            raise refused(fields)
        return tuple(positional), named


def _read(read: Callable[[Any], Any] | None, value: Any, place: str | int, fields: dict[str, str]) -> Any:
    if read is None or len(fields) >= MOST_FIELDS:
        return value
    try:
        return read(value)
    except (ValidationError, pydantic_core.PydanticSerializationError) as error:
        describe_pydantic(error, f"args[{place}]" if isinstance(place, int) else root_of(place), fields)
        return None


def _lenient(read: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """Return a function that converts a value if it fits, and returns it unchanged if not."""
    if read is None:
        return None

    def convert(value: Any) -> Any:
        try:
            return read(value)
        except (ValidationError, pydantic_core.PydanticSerializationError):
            return value

    return convert


def _reader(annotation: Any) -> Callable[[Any], Any] | None:
    """Return a function that converts a JSON value to the annotated type; None for no conversion."""
    adapter = adapter_of(annotation)
    if adapter is None:
        return None
    validator = adapter.validator
    if annotation in _PLAIN:
        return validator.validate_python
    # Validate as JSON, not as Python: a strict model accepts a text for a datetime only from JSON.
    return lambda value: validator.validate_json(pydantic_core.to_json(value))
