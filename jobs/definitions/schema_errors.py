"""Error texts for arguments that a job's JSON Schema refuses."""

from collections.abc import Mapping, Sequence
from typing import Final

from jsonschema_rs import ValidationError as SchemaError
from jsonschema_rs import ValidationErrorKind as Kind

from callboard.jobs.definitions.argument_errors import LONGEST_REASON, shown, steps
from callboard.jobs.model.basics.call_shape import key_path, root_of

#: The validator writes this in place of a value, so a message never contains a whole value.
MASK: Final = "the value"
_MOST_BRANCHES: Final = 10


def describe_schema_errors(errors: Sequence[SchemaError], positions: Mapping[str, str]) -> dict[str, str]:
    """Return the reason of the validator's first error about each field, by the field's path.

    positions: the path of each argument that was given by position, by the argument's name.
    """
    fields: dict[str, str] = {}
    for error in errors:
        field, reason = _described(error, positions)
        fields.setdefault(field, reason)
    return fields


def _described(error: SchemaError, positions: Mapping[str, str]) -> tuple[str, str]:
    """Return the field's path and the reason of an error."""
    error = _innermost(error)
    path = list(error.instance_path)
    if not path:
        return "kwargs", _reason(error)
    first = str(path[0])
    field = positions.get(first, root_of(first)) + steps(path[1:])
    match error.kind:
        case Kind.Required(property=name):
            return f"{field}.{key_path(str(name))}", "missing"
        case Kind.AdditionalProperties(unexpected=names) | Kind.UnevaluatedProperties(unexpected=names):
            return f"{field}.{key_path(names[0])}", "no such key"
        case _:
            return field, f"{_reason(error)}, got {shown(error.instance)}"


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
    return reason[:LONGEST_REASON]
