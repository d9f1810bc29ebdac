"""Keys made of a job's arguments: what makes it unique, and whose limits it counts towards."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

#: A key that would be longer is replaced by its digest.
_LONGEST: Final = 150


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


def _by_name(schema: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    values = {name: about["default"] for name, about in properties.items() if "default" in about}
    positions = schema.get("x-parameters", ())
    values.update(zip(positions, args, strict=False))
    values.update({f"args[{index}]": args[index] for index in range(len(positions), len(args))})
    return values | dict(kwargs)


def _written(value: Any) -> str:
    if value is None or isinstance(value, str | bool | int):
        return orjson.dumps(value).decode()
    return _digest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _digest(raw: bytes) -> str:
    return "sha256:" + sha256(raw).hexdigest()[:40]
