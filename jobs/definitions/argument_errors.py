"""What is wrong with a job's arguments, in one short line per field. At most 60 characters of a value are shown."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jsonschema_rs import ValidationError as SchemaError
from jsonschema_rs import ValidationErrorKind as Kind
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from callboard.jobs.errors import InvalidArguments

#: Fields named in one error; who has more wrong than this reads no further either.
MOST_FIELDS: Final = 20
#: Stands for the value in what the validator says, so that no message carries it whole.
MASK: Final = "the value"
_LONGEST_VALUE: Final = 60
_LONGEST_REASON: Final = 200
_MOST_STEPS: Final = 8
_MOST_BITS: Final = 190
_MOST_BRANCHES: Final = 10


def refused(fields: Mapping[str, str]) -> InvalidArguments:
    """The error for these fields; its one line names the first."""
    field, reason = next(iter(fields.items()))
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return InvalidArguments(f"{field}: {reason}{more}", fields=fields)


def root_of(name: str) -> str:
    """The field of a named argument."""
    return f"kwargs.{_key(name)}"


def describe_schema_error(error: SchemaError, positions: Mapping[str, str]) -> tuple[str, str]:
    """The field and the reason of a validator's error; `positions` says which names were given by position."""
    error = _most_telling(error)
    path = list(error.instance_path)
    if not path:
        return "kwargs", _reason(error)
    first = str(path[0])
    field = positions.get(first, root_of(first)) + _steps(path[1:])
    match error.kind:
        case Kind.Required(property=name):
            return f"{field}.{_key(str(name))}", "missing"
        case Kind.AdditionalProperties(unexpected=names) | Kind.UnevaluatedProperties(unexpected=names):
            return f"{field}.{_key(names[0])}", "no such key"
        case _:
            return field, f"{_reason(error)}, got {_shown(error.instance)}"


def describe_pydantic(
    error: ValidationError | PydanticSerializationError, root: str, fields: dict[str, str]
) -> None:
    """Add what pydantic found wrong with the argument at `root`."""
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
            # The one message of pydantic's that holds a value, however long.
            reason = f"{detail['ctx']['discriminator']} must be one of {detail['ctx']['expected_tags']}"
        fields.setdefault(field, f"{reason[:_LONGEST_REASON]}, got {_shown(detail['input'])}")


def _most_telling(error: SchemaError) -> SchemaError:
    """Of a choice between shapes, the error inside the shape that was nearly met; else the choice itself."""
    for branch in _branches(error):
        for inner in branch:
            about_keys = isinstance(inner.kind, Kind.Required | Kind.AdditionalProperties)
            if about_keys or len(inner.instance_path) > len(error.instance_path):
                return _most_telling(inner)
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
            # One reason per branch, once each; "must be integer" and "must be null" become one sentence.
            each = dict.fromkeys(_reason(branch[0]) for branch in _branches(error) if branch)
            reason = " or ".join(
                [text if not i else text.removeprefix("must be ") for i, text in enumerate(each)]
            )
        case Kind.PropertyNames():
            reason = "has a key that is not accepted"
        case _:
            reason = error.message
    return reason[:_LONGEST_REASON]


def _steps(path: Sequence[str | int]) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in path[:_MOST_STEPS]]
    return "".join(steps) + ("…" if len(path) > _MOST_STEPS else "")


def _key(name: str) -> str:
    """A key as part of a path: bounded, and on one line."""
    return _cut(name if name.isprintable() else repr(name))


def _shown(value: Any) -> str:
    """A value as an error may show it: scalars cut short, containers by their kind alone."""
    if isinstance(value, str):
        return repr(_cut(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return "a huge integer"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else type(value).__name__[:_LONGEST_VALUE]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
