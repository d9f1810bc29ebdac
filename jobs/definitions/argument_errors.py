"""Error texts for a job's arguments: one line for each bad field, with at most 60 characters of a value."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from callboard.jobs.errors import InvalidArguments
from callboard.jobs.model.basics.call_shape import MOST_FIELDS, cut, key_path

_LONGEST_VALUE: Final = 60
LONGEST_REASON: Final = 200
_MOST_STEPS: Final = 8
_MOST_BITS: Final = 190


def refused(fields: Mapping[str, str]) -> InvalidArguments:
    """Make the error for these fields. Its message names the first field and how many more there are."""
    field, reason = next(iter(fields.items()))
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return InvalidArguments(f"{field}: {reason}{more}", fields=fields)


def describe_pydantic(
    error: ValidationError | PydanticSerializationError, root: str, fields: dict[str, str]
) -> None:
    """Add pydantic's findings about the argument at the path `root` to `fields`."""
    if isinstance(error, PydanticSerializationError):
        fields.setdefault(root, "is not JSON")
        return
    for detail in error.errors(include_url=False)[: MOST_FIELDS - len(fields)]:
        field = root + steps(detail["loc"])
        if detail["type"] == "missing":
            fields.setdefault(field, "missing")
            continue
        reason = detail["msg"].replace("Input should be", "must be")
        if detail["type"] == "union_tag_invalid":
            # Pydantic's message for this error contains the whole value, so use our own message.
            reason = f"{detail['ctx']['discriminator']} must be one of {detail['ctx']['expected_tags']}"
        fields.setdefault(field, f"{reason[:LONGEST_REASON]}, got {shown(detail['input'])}")


def steps(path: Sequence[str | int]) -> str:
    """Return the rest of a path, such as `.lines[2].price`."""
    found = [f"[{step}]" if isinstance(step, int) else f".{key_path(step)}" for step in path[:_MOST_STEPS]]
    return "".join(found) + ("…" if len(path) > _MOST_STEPS else "")


def shown(value: Any) -> str:
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
