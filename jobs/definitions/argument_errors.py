"""Error texts for a job's arguments: one line for each bad field, with at most 60 characters of a value."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jsonschema_rs import ValidationError as SchemaError
from jsonschema_rs import ValidationErrorKind as Kind
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from callboard.jobs.errors import InvalidArguments
from callboard.jobs.model.basics.call_shape import MOST_FIELDS, cut, key_path, root_of

#: The validator writes this in place of a value, so a message never contains a whole value.
MASK: Final = "the value"
_LONGEST_VALUE: Final = 60
_LONGEST_REASON: Final = 200
_MOST_STEPS: Final = 8
_MOST_BITS: Final = 190
_MOST_BRANCHES: Final = 10


def refused(fields: Mapping[str, str]) -> InvalidArguments:
    """Make the error for these fields. Its message names the first field and how many more there are."""
    field, reason = next(iter(fields.items()))
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return InvalidArguments(f"{field}: {reason}{more}", fields=fields)


def describe_schema_error(error: SchemaError, positions: Mapping[str, str]) -> tuple[str, str]:
    """Return the field's path and the reason of an error of the JSON Schema validator.

    positions: the path of each argument that was given by position, by the argument's name.
    """
    error = _innermost(error)
    path = list(error.instance_path)
    if not path:
        return "kwargs", _reason(error)
    first = str(path[0])
    field = positions.get(first, root_of(first)) + _steps(path[1:])
    match error.kind:
        case Kind.Required(property=name):
            return f"{field}.{key_path(str(name))}", "missing"
        case Kind.AdditionalProperties(unexpected=names) | Kind.UnevaluatedProperties(unexpected=names):
            return f"{field}.{key_path(names[0])}", "no such key"
        case _:
            return field, f"{_reason(error)}, got {_shown(error.instance)}"


def describe_pydantic(
    error: ValidationError | PydanticSerializationError, root: str, fields: dict[str, str]
) -> None:
    """Add pydantic's findings about the argument at the path `root` to `fields`."""
    if isinstance(error, PydanticSerializationError):
        fields.setdefault(root, "is not JSON")
        return
    for detail in error.errors(include_url=False)[: MOST_FIELDS - len(fields)]:
        field = root + _steps(detail["loc"])
        if detail["type"] == "missing":
            fields.setdefault(field, "missing")
            continue
        reason = detail["msg"].replace("Input should be", "must be")
        if detail["type"] == "union_tag_invalid":
            # Pydantic's message for this error contains the whole value, so use our own message.
            reason = f"{detail['ctx']['discriminator']} must be one of {detail['ctx']['expected_tags']}"
        fields.setdefault(field, f"{reason[:_LONGEST_REASON]}, got {_shown(detail['input'])}")


def _innermost(error: SchemaError) -> SchemaError:
    """Return the most specific error.

    For `anyOf` and `oneOf` that is the error inside the alternative that matched best. When no alternative
    matched even in part, it is the error itself.
    """
    for branch in _branches(error):
        for inner in branch:
            about_keys = isinstance(inner.kind, Kind.Required | Kind.AdditionalProperties)
            if about_keys or len(inner.instance_path) > len(error.instance_path):
                return _innermost(inner)
    return error


def _branches(error: SchemaError) -> list[list[SchemaError]]:
    match error.kind:
        case Kind.AnyOf(context=context) | Kind.OneOfNotValid(context=context):
            return context[:_MOST_BRANCHES]
        case _:
            return []


def _reason(error: SchemaError) -> str:
    match error.kind:
        case Kind.Type(types=types):
            reason = "must be " + " or ".join(types)
        case Kind.Format(format=name):
            reason = f"must be a {name}"
        case Kind.AnyOf() | Kind.OneOfNotValid():
            # One reason for each alternative, without repeats, joined to one: "must be integer or null".
            reasons = dict.fromkeys(_reason(branch[0]) for branch in _branches(error) if branch)
            reason = " or ".join(
                [text if not i else text.removeprefix("must be ") for i, text in enumerate(reasons)]
            )
        case Kind.PropertyNames():
            reason = "has a key that is not accepted"
        case _:
            reason = error.message
    return reason[:_LONGEST_REASON]


def _steps(path: Sequence[str | int]) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else f".{key_path(step)}" for step in path[:_MOST_STEPS]]
    return "".join(steps) + ("…" if len(path) > _MOST_STEPS else "")


def _shown(value: Any) -> str:
    """Return a value as an error shows it: a text is cut; an object or a list is named, not shown."""
    if isinstance(value, str):
        return repr(cut(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return "a huge integer"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else type(value).__name__[:_LONGEST_VALUE]
