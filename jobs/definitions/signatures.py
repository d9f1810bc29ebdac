"""A job's signature: the names it accepts, and the JSON Schema of their values."""

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from re import Pattern
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

import jsonschema_rs
import orjson
from pydantic import AnyUrl, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import PydanticJsonSchemaWarning

from callboard.jobs.definitions.argument_errors import MASK, MOST_FIELDS, root_of
from callboard.jobs.errors import InvalidInput

Json = dict[str, Any]
Adapter = TypeAdapter[Any]
Parameters = dict[str, inspect.Parameter]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_LONGEST_DEFAULT: Final = 1_000
_MISSING: Final = inspect.Parameter.empty
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class ArgumentSpec:
    """What a job accepts, as workers publish it.

    schema: JSON Schema (2020-12) of the arguments as one object by parameter name. `x-parameters` lists those that
            may be given by position, in order, `x-positional-only` those that must be; `x-var-positional` says
            whether more positions may follow, whose values are checked in the worker alone.
    """

    schema: Json


@dataclass(frozen=True, slots=True)
class Shape:
    """The names of a signature, and what may be given how."""

    positional: tuple[str, ...]
    named: frozenset[str]
    required: tuple[str, ...]
    var_positional: bool
    var_keyword: bool

    @classmethod
    def of(cls, parameters: Parameters) -> "Shape":
        kinds = {item.kind for item in parameters.values()}
        usual = [item for item in parameters.values() if item.kind in {*_BY_POSITION, *_BY_NAME}]
        return cls(
            positional=tuple(item.name for item in usual if item.kind in _BY_POSITION),
            named=frozenset(item.name for item in usual if item.kind in _BY_NAME),
            required=tuple(item.name for item in usual if item.default is _MISSING),
            var_positional=inspect.Parameter.VAR_POSITIONAL in kinds,
            var_keyword=inspect.Parameter.VAR_KEYWORD in kinds,
        )

    def problems(self, given: int, kwargs: Mapping[str, Any]) -> dict[str, str]:
        """What Python would say to a call with so many positions and these names, by field."""
        fields: dict[str, str] = {}
        taken = self.positional[:given]
        if self._is_plainly_right(taken, given, kwargs):
            return fields
        most = len(self.positional)
        if given > most and not self.var_positional:
            fields[f"args[{most}]"] = f"one too many: {most} accepted by position, {given} given"
        for name in kwargs:
            if name in self.named:
                if name in taken:
                    fields[root_of(name)] = "given twice, by position and by name"
            elif not self.var_keyword:
                known = name in self.positional
                fields[root_of(name)] = "accepted by position only" if known else "no such argument"
            if len(fields) >= MOST_FIELDS:
                return fields
        for name in self.required:
            if name not in taken and (name not in kwargs or name not in self.named):
                field = root_of(name) if name in self.named else f"args[{self.positional.index(name)}]"
                fields[field] = "missing"
        return fields

    def _is_plainly_right(self, taken: tuple[str, ...], given: int, kwargs: Mapping[str, Any]) -> bool:
        """Whether everything is named by the signature, once, and nothing is missing: nearly every call."""
        if not self.named.issuperset(kwargs):
            return False
        names = {*taken, *kwargs} if taken else kwargs
        if len(names) != given + len(kwargs):
            return False
        return all(map(names.__contains__, self.required))


def describe(function: Callable[..., Any]) -> ArgumentSpec:
    """The arguments that a function accepts. An annotation with no JSON Schema, or none, accepts any value."""
    parameters = read_parameters(function)
    shape = Shape.of(parameters)
    adapters = {name: adapter_of(item.annotation) for name, item in parameters.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        found, shared = TypeAdapter.json_schemas(
            [
                (name, "validation", adapter)
                for name, adapter in adapters.items()
                if adapter is not None and _has_schema(adapter)
            ]
        )
    properties: Json = {}
    others: Any = shape.var_keyword
    for name, item in parameters.items():
        accepted = dict(found.get((name, "validation"), {}))
        if item.kind is inspect.Parameter.VAR_KEYWORD:
            others = accepted or True
        elif item.kind is not inspect.Parameter.VAR_POSITIONAL:
            properties[name] = accepted | _default(item.default)
    positional_only = [name for name in shape.positional if name not in shape.named]
    schema = {
        "$schema": _DIALECT,
        "type": "object",
        "properties": properties,
        "required": list(shape.required),
        "additionalProperties": others,
        "x-parameters": list(shape.positional),
        "x-var-positional": shape.var_positional,
        **({"x-positional-only": positional_only} if positional_only else {}),
        **shared,
    }
    return ArgumentSpec(orjson.loads(orjson.dumps(schema)))


def read_parameters(function: Callable[..., Any]) -> Parameters:
    """The function's parameters with their annotations as types; what cannot be read counts as unannotated."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise InvalidInput(f"{function!r:.100} has no signature to read; wrap it in a function") from None
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    if not hasattr(inner, "__globals__"):
        inner = getattr(inner, "__init__" if isinstance(inner, type) else "__call__", inner)
    namespace = getattr(inspect.unwrap(inner), "__globals__", {})
    return {
        name: item.replace(annotation=_annotation(item, namespace))
        for name, item in signature.parameters.items()
    }


def adapter_of(annotation: Any) -> Adapter | None:
    """What reads values of this annotation; None where any value will do, or pydantic knows of no way."""
    if annotation is Any or annotation is object:
        return None
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, TypeError):
        return None


def compile_schema(schema: Json) -> jsonschema_rs.Validator:
    """A validator that fetches nothing, shows no values and reads formats as pydantic does; may raise ValueError."""
    return jsonschema_rs.Draft202012Validator(
        schema, formats=_FORMATS, validate_formats=True, mask=MASK, offline=True
    )


def _annotation(item: inspect.Parameter, namespace: Json) -> Any:
    if item.annotation is _MISSING:
        return Any
    holder = SimpleNamespace(__annotations__={"it": item.annotation})
    try:
        found = typing.get_type_hints(holder, globalns=namespace, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - an annotation is the user's code, evaluated here, and may raise anything
        return Any
    # `month: str = None` is how many write an optional argument.
    optional = item.default is None and found is not Any
    return typing.Optional[found] if optional else found  # noqa: UP045 - `|` fails on a few types


def _has_schema(adapter: Adapter) -> bool:
    """Whether the type has a JSON Schema, and one that a door can use."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            schema = adapter.json_schema()
        compile_schema(orjson.loads(orjson.dumps(schema)))
    except (PydanticUserError, TypeError, ValueError):
        return False
    return True


def _default(value: Any) -> Json:
    """The default, for people to read, where it is short and JSON says it as it is."""
    try:
        encoded = b"" if value is _MISSING else orjson.dumps(value)
    except TypeError:
        return {}
    short = 0 < len(encoded) <= _LONGEST_DEFAULT
    return {"default": value} if short and orjson.loads(encoded) == value else {}


def _format(kind: Any) -> Callable[[str], bool]:
    validator = TypeAdapter(kind).validator

    def accepts(text: str) -> bool:
        try:
            validator.validate_python(text)
        except ValidationError:
            return False
        return True

    return accepts


#: A door accepts a text for a date exactly when the worker can read it as one.
_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _format(datetime),
    "date": _format(date),
    "time": _format(time),
    "duration": _format(timedelta),
    "uuid": _format(UUID),
    "uri": _format(AnyUrl),
    "ipv4": _format(IPv4Address),
    "ipv6": _format(IPv6Address),
    "regex": _format(Pattern[str]),
}
