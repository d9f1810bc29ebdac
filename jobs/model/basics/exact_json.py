"""Write values as JSON that keeps every number, and name the place of a value that JSON cannot hold.

orjson writes almost all values. It refuses integers of more than 64 bits, and writes 1e16 in a form that
jsonb stores as an integer. This module makes a copy of such a value in which these numbers are written out.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson
from pydantic import BaseModel

from callboard.jobs.errors import NotStorable
from callboard.jobs.model.basics.call_shape import key_path

#: The deepest nesting that is accepted, in levels of lists and objects.
MOST_LEVELS: Final = 100
#: The largest number that is accepted: that of a double. Integers up to it are exact. jsonb does not tell a
#: larger integer from a larger float (1e400), which has no value in Python.
LARGEST: Final = int(Decimal(repr(sys.float_info.max)))
_WORD: Final = range(-(2**63), 2**64)
BEYOND_DOUBLE: Final = "a number beyond the range of a double (about 1.8e308)"
#: From here on, Python and orjson write a float with an exponent. jsonb would make an integer of that.
_EXPONENT_FROM: Final = 1e16
#: jsonb has no negative zero. Every reader of doubles rounds this number (-1e-325) to it.
_NEGATIVE_ZERO: Final = b"-0." + b"0" * 324 + b"1"
_MOST_STEPS: Final = 12
#: Room for written-out numbers where the caller has no limit of its own. Bytes.
_MOST_WRITTEN: Final = 16 * 1024 * 1024

_Path = tuple[str | int, ...]


def write(value: Any, *, default: Callable[[Any], Any] | None = None, option: int | None = None) -> bytes:
    """Return what orjson.dumps returns; integers of any length are written out."""
    try:
        return orjson.dumps(value, default=default, option=option)
    except orjson.JSONEncodeError:
        return orjson.dumps(_with_long_integers(value), default=default, option=option)


def exact(value: Any, what: str, *, limit: int = _MOST_WRITTEN) -> Any:
    """Return a copy that orjson writes so that Postgres stores and returns the same value.

    limit: the most bytes of numbers that have to be written out: 2 MiB of `-0.0` would become 138 MB.

    Raises NotStorable, which names the place of the first value that cannot be stored, such as
    `kwargs.lines[3].price`.
    """
    return _Copy(limit).of(value, (what,), 0)


def plain(value: Any) -> Any:
    """Convert a value that orjson cannot write to one that it can."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def refusal(path: _Path, reason: str) -> NotStorable:
    """Make the error for the value at this path."""
    first, *steps = path
    place = str(first) + "".join(
        f"[{step}]" if isinstance(step, int) else f".{key_path(_shown(step))}" for step in steps[:_MOST_STEPS]
    )
    place += "…" if len(steps) > _MOST_STEPS else ""
    return NotStorable(f"{place} {reason}", fields={place: reason})


class _Copy:
    """Makes the copy of one value. Numbers that are written out may have `room` bytes together."""

    def __init__(self, room: int) -> None:
        self._room = room

    def of(self, value: Any, path: _Path, level: int) -> Any:
        match value:
            case None | bool():
                return value
            case Enum():
                return self.of(value.value, path, level)
            # A subclass of these types may have methods of its own. Only its plain value counts.
            case str():
                return _text(str.__str__(value), path)
            case int():
                return self._integer(int.__pos__(value), path)
            case float():
                return self._float(float.__pos__(value), path)
            case dict():
                _check_level(level, path)
                return {
                    _key(key, path): self.of(one, (*path, key), level + 1) for key, one in dict.items(value)
                }
            case list():
                _check_level(level, path)
                return [self.of(one, (*path, index), level + 1) for index, one in enumerate(list.copy(value))]
        if type(value) is tuple:
            return self.of(list(value), path, level)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.of(written_fields(value), path, level)
        if isinstance(value, BaseModel):
            return self.of(_dumped(value, path), path, level)
        return _other(value, path)

    def _integer(self, value: int, path: _Path) -> Any:
        if value in _WORD:
            return value
        if abs(value) > LARGEST:
            raise refusal(path, f"is {BEYOND_DOUBLE}; pass it as text")
        return self._written(b"%d" % value, path)

    def _float(self, value: float, path: _Path) -> Any:
        if not math.isfinite(value):
            raise refusal(path, f"is NaN or an infinity, or {BEYOND_DOUBLE}")
        if abs(value) >= _EXPONENT_FROM:
            return self._written(f"{Decimal(repr(value)):f}.0".encode(), path)
        if value == 0 and math.copysign(1, value) < 0:
            return self._written(_NEGATIVE_ZERO, path)
        return value

    def _written(self, digits: bytes, path: _Path) -> Any:
        self._room -= len(digits)
        if self._room < 0:
            raise refusal(path, "is one of too many numbers that take hundreds of digits; pass them as text")
        return orjson.Fragment(digits)


def _check_level(level: int, path: _Path) -> None:
    if level >= MOST_LEVELS:
        raise refusal(path, f"is nested deeper than {MOST_LEVELS} levels")


def _key(key: Any, path: _Path) -> str:
    if type(key) is not str:
        raise refusal(path, f"cannot be written as JSON: a key is of the type {_type(key)}, and must be text")
    return _text(key, (*path, key), "is a key that")


def _text(value: str, path: _Path, subject: str = "") -> str:
    """Return the text. subject: words before the reason, for a key."""
    if "\0" in value:
        raise refusal(
            path, f"{subject} holds a NUL character (\\u0000), which Postgres cannot store".lstrip()
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        reason = "cannot be written as JSON: it has a lone surrogate, which UTF-8 does not have"
        raise refusal(path, f"{subject} {reason}".lstrip()) from None
    return value


def written_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that orjson writes: those that are set, and public."""
    names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _dumped(model: BaseModel, path: _Path) -> Any:
    try:
        return model.model_dump(mode="json")
    except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
        reason = f"cannot be written as JSON: {_type(model)}.model_dump raised {type(error).__name__}"
        raise refusal(path, reason) from None


def _other(value: Any, path: _Path) -> Any:
    """Return a value that is a text in JSON, such as a datetime, a UUID or a Decimal."""
    try:
        return orjson.loads(orjson.dumps(value, default=plain))
    except orjson.JSONEncodeError:
        raise refusal(path, f"cannot be written as JSON: it is of the type {_type(value)}") from None


def with_text_keys(value: Any, level: int = 0) -> Any:
    """Return a copy of a value with the keys that Python's `json` writes: numbers, bools and None as text.

    A subclass of tuple, such as a named tuple, becomes a list, as there.
    """
    if level > MOST_LEVELS:
        return value
    if issubclass(type(value), dict):
        return {_text_key(key): with_text_keys(one, level + 1) for key, one in dict.items(value)}
    if issubclass(type(value), list | tuple):
        return [with_text_keys(one, level + 1) for one in (*value,)]
    return value


def _text_key(key: Any) -> Any:
    kind = type(key)
    if key is None or kind is bool:
        return _CONSTANT_KEYS[key]
    if issubclass(kind, str):
        return str.__str__(key)
    if issubclass(kind, int):
        return int.__repr__(key)
    return float.__repr__(key) if issubclass(kind, float) else key


_CONSTANT_KEYS: Final = {None: "null", True: "true", False: "false"}


def _with_long_integers(value: Any) -> Any:
    """Return a copy of a JSON value in which orjson writes every integer."""
    if isinstance(value, dict):
        return {key: _with_long_integers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_long_integers(one) for one in value]
    if type(value) is int and value not in _WORD:
        return orjson.Fragment(b"%d" % value)
    return value


def _type(value: Any) -> str:
    return type(value).__name__[:60]


def _shown(key: Any) -> str:
    """Return a key as it can be printed."""
    return str(key).encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
