"""Recognise JSON Schemas that compile for sure, without the validator, which takes 5 MiB of a process."""

from collections.abc import Callable, Mapping
from typing import Any, Final

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_DEFINITION: Final = "#/$defs/"


def is_standard(schema: Any) -> bool:
    """Return whether a schema has only keywords, with valid values, that pydantic writes for usual types.

    The validator compiles such a schema. Of others, such as one with a `pattern`, only a try shows it.
    """
    definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    return isinstance(definitions, dict) and _is_schema(schema, definitions)


def _is_schema(value: Any, definitions: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(
        _is_valid(keyword, item, definitions) for keyword, item in value.items()
    )


def _is_valid(keyword: str, value: Any, definitions: Mapping[str, Any]) -> bool:
    match keyword:
        case "$defs" | "properties":
            return isinstance(value, dict) and all(_is_schema(item, definitions) for item in value.values())
        case "items" | "additionalProperties":
            return isinstance(value, bool) or _is_schema(value, definitions)
        case "allOf" | "anyOf" | "oneOf" | "prefixItems":
            return _is_list(value) and all(_is_schema(item, definitions) for item in value)
        case "$ref":
            return _is_text(value) and value.removeprefix(_DEFINITION) in definitions and _is_plain(value)
        case _:
            check = _CHECKS.get(keyword)
            return check is not None and check(value)


def _is_plain(reference: str) -> bool:
    name = reference.removeprefix(_DEFINITION)
    return name != reference and name.isidentifier()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_anything(_value: Any) -> bool:
    return True


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "type": lambda value: _is_text(value) and value in _TYPES,
    "enum": _is_list,
    "required": lambda value: _is_list(value) and all(map(_is_text, value)) and len(set(value)) == len(value),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    **dict.fromkeys(("title", "description", "format"), _is_text),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _is_count),
    **dict.fromkeys(("minProperties", "maxProperties"), _is_count),
    **dict.fromkeys(("uniqueItems", "writeOnly", "readOnly", "deprecated"), _is_flag),
    # The validator compares a const, and ignores the others.
    **dict.fromkeys(("const", "default", "examples", "discriminator"), _is_anything),
}
