"""What a job accepts: described once from its signature, checked at every door, bound in the worker."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import pydantic_core
from jsonschema_rs import ValidationError as SchemaError
from pydantic import ValidationError

from callboard.jobs.definitions.argument_errors import (
    MOST_FIELDS,
    describe_pydantic,
    describe_schema_error,
    refused,
    root_of,
)
from callboard.jobs.definitions.signatures import (
    ArgumentSpec,
    Shape,
    adapter_of,
    compile_schema,
    describe,
    read_parameters,
)
from callboard.jobs.errors import InvalidArguments, InvalidInput
from callboard.jobs.model.json_values import as_written, encode

__all__ = ["ArgumentBinder", "ArgumentChecker", "ArgumentSpec", "describe", "encode"]

#: Read alike from JSON and from the parsed value, so the parsed value will do.
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


class ArgumentChecker:
    """Checks arguments against a published schema, without the function; built once, used for every call."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        positional_only = frozenset(schema.get("x-positional-only", ()))
        others = schema.get("additionalProperties", True)
        self._shape = Shape(
            positional=tuple(schema.get("x-parameters", ())),
            named=frozenset(schema.get("properties", ())) - positional_only,
            required=tuple(schema.get("required", ())),
            var_positional=bool(schema.get("x-var-positional", False)),
            var_keyword=others is not False,
        )
        # The shape answers for the names; left to the schema are the values.
        values = {
            key: value for key, value in schema.items() if key not in {"required", "additionalProperties"}
        }
        if isinstance(others, dict):
            values["additionalProperties"] = others
        try:
            self._validator = compile_schema(values)
        except ValueError as error:
            reason = str(error).partition("\n")[0][:200]
            raise InvalidInput(f"the schema published for this job is not usable: {reason}") from None

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Pass when the job accepts these values, JSON or what `encode` makes it; else InvalidArguments names each field."""
        fields = self._shape.problems(len(args), kwargs)
        if fields:
            raise refused(fields)
        positions: dict[str, str] = {}
        instance = dict(kwargs)
        if args:
            positions = {
                name: f"args[{place}]" for place, name in enumerate(self._shape.positional[: len(args)])
            }
            # A positional-only name that also comes by keyword belongs to **kwargs: the position's value is checked.
            by_position = dict(zip(positions, args, strict=False))
            instance = {**by_position, **kwargs, **by_position}
        try:
            errors = self._errors(instance)
        except ValueError:
            # It holds a datetime, a UUID or the like: judged as it will be written.
            try:
                errors = self._errors(as_written(instance))
            except InvalidInput as error:
                raise InvalidArguments(f"the arguments are {error.message}") from None
        for found in errors:
            field, reason = describe_schema_error(found, positions)
            fields.setdefault(field, reason)
        if fields:
            raise refused(fields)

    def _errors(self, instance: dict[str, Any]) -> list[SchemaError]:
        if self._validator.is_valid(instance):
            return []
        return list(islice(self._validator.iter_errors(instance), MOST_FIELDS))


class ArgumentBinder:
    """Turns stored arguments into a call of the function, for the worker.

    coerce: values are validated and become what the annotations say (datetime, UUID, models, Enum ...); else they
            stay what JSON made of them, and only the names are checked.
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

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and named values to call the function with; InvalidArguments when they do not fit.

        A validator of the user's own that raises anything but ValueError or AssertionError is heard as it is.
        """
        fields = self._shape.problems(len(args), kwargs)
        if fields:
            raise refused(fields)
        if self._reads_nothing:
            return tuple(args), dict(kwargs)
        known = len(self._positional)
        positional = [
            _read(self._positional[index] if index < known else self._more_positional, value, index, fields)
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


def _reader(annotation: Any) -> Callable[[Any], Any] | None:
    """What turns a JSON value into the annotated type; None where it may stay as it is."""
    adapter = adapter_of(annotation)
    if adapter is None:
        return None
    validator = adapter.validator
    if annotation in _PLAIN:
        return validator.validate_python
    # As JSON, not as Python: a strict model takes a text for a datetime from JSON alone.
    return lambda value: validator.validate_json(pydantic_core.to_json(value))
