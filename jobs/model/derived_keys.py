"""Keys that are derived from a job's arguments: the default unique key and the default limit key."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.exact_json import write

#: A longer text is replaced by its digest. Characters.
_MAX_DERIVED_LENGTH: Final = 150
#: The limit of the column `unique_key`. Characters.
_MAX_UNIQUE_KEY_LENGTH: Final = 200
#: Below this, a float with no fraction (7.0) is written as the integer (7), as the SQL function does.
_INTEGER_BOUND: Final = 2**64


def derived_key(
    schema: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any], by: Sequence[str]
) -> str:
    """Return the values of some arguments as one text, such as `account_id=7,month="2026-10"`.

    schema: the job's published JSON Schema. It has the names of the positional arguments, and the defaults.
    by:     the names of the arguments to use, in this order. Empty: all arguments, sorted by name.

    An argument has the same text whether it is given by position, by name or by default. Values are written
    as JSON, so different values have different texts. A list, an object or a number with a fraction is
    written as its digest. The SQL function `enqueue` builds the same text.
    """
    values = _by_name(schema, args, kwargs)
    text = ",".join(f"{name}={_value_text(values.get(name))}" for name in by or sorted(values))
    return text if len(text) <= _MAX_DERIVED_LENGTH else _digest(text.encode())


def check_names(job: str, schema: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise InvalidInput unless the job takes arguments of these names.

    Without this check, a misspelled name would give every call of the job the same key.
    """
    if schema.get("additionalProperties", True) is not False:
        return
    for name in names:
        if name not in schema.get("properties", {}):
            raise InvalidInput(f"the job {job!r} has no argument {name!r} to derive a key from")


def unique_key(name: str, derived: str) -> str:
    """Return the unique key for a job of this name; `derived` is the text that `derived_key` made."""
    key = f"{name}:{derived}"
    return key if len(key) <= _MAX_UNIQUE_KEY_LENGTH else _digest(key.encode())


def _by_name(schema: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    values = {
        name: described["default"]
        for name, described in properties.items()
        if isinstance(described, Mapping) and "default" in described
    }
    positions = schema.get("x-parameters", ())
    values.update(zip(positions, args, strict=False))
    values.update({f"args[{index}]": args[index] for index in range(len(positions), len(args))})
    return values | dict(kwargs)


def _value_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _INTEGER_BOUND:
        value = int(value)
    if value is None or isinstance(value, str | bool | int):
        return write(value).decode()
    return _digest(write(value, option=orjson.OPT_SORT_KEYS))


def _digest(raw: bytes) -> str:
    return "sha256:" + sha256(raw).hexdigest()[:40]
