"""A job's signature: the names of its arguments, and the JSON Schema of their values."""

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import PydanticJsonSchemaWarning

from callboard.jobs.definitions.callables import own_signature, wrapped_by
from callboard.jobs.definitions.standard_schemas import is_standard
from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.call_shape import Parameters, Shape

Json = dict[str, Any]
Adapter = TypeAdapter[Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_LONGEST_DEFAULT: Final = 1_000
_LONGEST_REASON: Final = 300
_MISSING: Final = inspect.Parameter.empty
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC: Final = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


@dataclass(frozen=True, slots=True)
class ArgumentSpec:
    """The arguments of a job, as workers publish them.

    schema: JSON Schema (2020-12) of one object with a property for each parameter. Our own keywords:
            `x-parameters`: the parameters that can be given by position, in order.
            `x-positional-only`: the parameters that can only be given by position.
            `x-var-positional`: true when the function has `*args`. Only the worker checks the values of
            `*args`.
    unchecked: the parameters whose annotation cannot be used, each with the reason. They accept any value.

    A decorator's wrapper that takes `*args, **kwargs` accepts any arguments. The schema then has the names of
    the wrapped function's parameters, and no types.
    """

    schema: Json
    unchecked: Mapping[str, str] = field(default_factory=dict)


def describe(function: Callable[..., Any]) -> ArgumentSpec:
    """Describe the arguments of a function. A parameter whose type has no JSON Schema accepts any value."""
    unchecked: dict[str, str] = {}
    parameters = read_parameters(function, unchecked)
    shape = Shape.of(parameters)
    adapters = {name: adapter_of(item.annotation, unchecked, name) for name, item in parameters.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        found, shared = TypeAdapter.json_schemas(
            [
                (name, "validation", adapter)
                for name, adapter in adapters.items()
                if adapter is not None and _has_schema(adapter, unchecked, name)
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
    passed = passed_on(function, parameters)
    for name, item in passed.items():
        properties.setdefault(name, _default(item.default))
    schema = {
        "$schema": _DIALECT,
        "type": "object",
        "properties": properties,
        "required": list(shape.required),
        "additionalProperties": others,
        "x-parameters": list(shape.positional or Shape.of(passed).positional),
        "x-var-positional": shape.var_positional,
        **({"x-positional-only": positional_only} if positional_only else {}),
        **shared,
    }
    return ArgumentSpec(orjson.loads(orjson.dumps(schema)), unchecked)


def read_parameters(function: Callable[..., Any], unchecked: dict[str, str] | None = None) -> Parameters:
    """Return the parameters of the function itself, with annotations resolved to types.

    An annotation that cannot be resolved counts as no annotation; `unchecked` gets the reason. Raises
    InvalidInput for a callable that has no signature.
    """
    try:
        signature = own_signature(function)
    except (TypeError, ValueError):
        raise InvalidInput(f"{function!r:.100} has no signature; wrap it in a function") from None
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    if not hasattr(inner, "__globals__"):
        inner = getattr(inner, "__init__" if isinstance(inner, type) else "__call__", inner)
    namespace = getattr(inspect.unwrap(inner), "__globals__", {})
    wrapped = wrapped_by(function) is not None
    reasons = {} if unchecked is None else unchecked
    return {
        # functools.wraps copies the wrapped function's annotations: they are not about a wrapper's `*args`.
        name: item.replace(
            annotation=Any if wrapped and item.kind in _VARIADIC else _annotation(item, namespace, reasons)
        )
        for name, item in signature.parameters.items()
    }


def passed_on(function: Callable[..., Any], own: Parameters) -> Parameters:
    """Return the parameters of the wrapped function that a wrapper may pass on by `*args` and `**kwargs`.

    own: the wrapper's own parameters. Whether it passes arguments on unchanged cannot be seen: it may add or
    change some.
    """
    wrapped = wrapped_by(function)
    if wrapped is None or _VARIADIC.isdisjoint(item.kind for item in own.values()):
        return {}
    try:
        inner = read_parameters(wrapped.function)
    except InvalidInput:
        return {}
    inner = {**inner, **passed_on(wrapped.function, inner)}
    filled = [name for name, item in inner.items() if item.kind in _BY_POSITION][: wrapped.positions]
    left_out = {*own, *filled, *wrapped.names}
    return {name: item for name, item in inner.items() if item.kind not in _VARIADIC and name not in left_out}


def adapter_of(annotation: Any, unchecked: dict[str, str] | None = None, name: str = "") -> Adapter | None:
    """Return pydantic's adapter for an annotation; None when any value is accepted or pydantic has none.

    When pydantic has none, `unchecked` gets the reason under `name`.
    """
    if annotation is Any or annotation is object:
        return None
    try:
        adapter = TypeAdapter(annotation)
        # Pydantic puts off the error about a type that is not defined yet.
        adapter.rebuild()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - types run user code, which may raise or exit
        if unchecked is not None:
            unchecked[name] = _reason(error)
        return None
    return adapter


def _annotation(item: inspect.Parameter, namespace: Json, unchecked: dict[str, str]) -> Any:
    if item.annotation is _MISSING:
        return Any
    holder = SimpleNamespace(__annotations__={"it": item.annotation})
    try:
        found = typing.get_type_hints(holder, globalns=namespace, include_extras=True)["it"]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an annotation is user code, which may raise or exit
        unchecked[item.name] = _reason(error)
        return Any
    # Many people write an optional argument as `month: str = None`.
    optional = item.default is None and found is not Any
    return typing.Optional[found] if optional else found  # noqa: UP045 - `|` fails on a few types


def _reason(error: BaseException) -> str:
    """Return an error as one short line. Its own text may fail."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the text of an error is user code
        text = ""
    return f"{type(error).__name__}: {text}"[:_LONGEST_REASON].rstrip(": ")


def _has_schema(adapter: Adapter, unchecked: dict[str, str], name: str) -> bool:
    """Whether the type has a JSON Schema that our validator can compile; `unchecked` gets the reason if not.

    Then enqueues accept any value, and only the worker checks it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            schema = orjson.loads(orjson.dumps(adapter.json_schema()))
        if not is_standard(schema):
            # Here, because few types need it, and it takes 5 MiB and 20 ms of each worker child.
            from callboard.jobs.definitions.schema_validator import compile_schema

            compile_schema(schema)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - types run user code, which may raise or exit
        unchecked[name] = f"no JSON Schema, so only the worker checks it: {_reason(error)}"
        return False
    return True


def _default(value: Any) -> Json:
    """Return the default as JSON Schema, if it is short and `jsonb` holds it without loss; else nothing."""
    try:
        encoded = b"" if value is _MISSING else orjson.dumps(value)
    except TypeError:
        return {}
    fits = 0 < len(encoded) <= _LONGEST_DEFAULT and b"\\u0000" not in encoded
    return {"default": value} if fits and orjson.loads(encoded) == value else {}
