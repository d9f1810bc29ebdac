"""Keys made of a job's arguments: what makes it unique, and whose limits it counts towards."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from callboard.jobs.errors import InvalidInput

#: A key that would be longer is replaced by its digest.
_LONGEST: Final = 150
#: What a unique key may have.
_LONGEST_UNIQUE: Final = 200
#: Up to here a whole number that is written as a fraction (7.0) is that number, as Postgres has it.
_EXACT: Final = 2**64


def derived_key(
    schema: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any], by: Sequence[str]
) -> str:
    """`account_id=7,month="2026-10"`: the values of these arguments, however they were given; of all when `by` is empty.

    schema: the job's published JSON Schema, which names positions and defaults. Values are written as JSON, so that
    no two different ones read alike; lists, objects and fractions as their digest. The SQL function builds the same text.
    """
    values = _by_name(schema, args, kwargs)
    text = ",".join(f"{name}={_written(values.get(name))}" for name in by or sorted(values))
    return text if len(text) <= _LONGEST else _digest(text.encode())


def check_names(job: str, schema: Mapping[str, Any], names: Sequence[str]) -> None:
    """Pass when the job takes arguments of these names; otherwise all its calls would share a key: InvalidInput."""
    if schema.get("additionalProperties", True) is not False:
        return
    for name in names:
        if name not in schema.get("properties", {}):
            raise InvalidInput(f"the job {job!r} has no argument {name!r}, of which its keys could be made")


def unique_key(name: str, derived: str) -> str:
    """The unique key of a job of this name whose arguments read like this."""
    key = f"{name}:{derived}"
    return key if len(key) <= _LONGEST_UNIQUE else _digest(key.encode())


def _by_name(schema: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    values = {
        name: about["default"]
        for name, about in properties.items()
        if isinstance(about, Mapping) and "default" in about
    }
    positions = schema.get("x-parameters", ())
    values.update(zip(positions, args, strict=False))
    values.update({f"args[{index}]": args[index] for index in range(len(positions), len(args))})
    return values | dict(kwargs)


def _written(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    if value is None or isinstance(value, str | bool | int):
        return orjson.dumps(value).decode()
    return _digest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _digest(raw: bytes) -> str:
    return "sha256:" + sha256(raw).hexdigest()[:40]
