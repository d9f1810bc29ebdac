"""JSON that Postgres can store. `encode` checks and writes every value that is stored."""

import dataclasses
import json
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson
from pydantic import BaseModel

from callboard.jobs.errors import InvalidInput

#: The deepest nesting that is accepted, in levels.
_MAX_DEPTH: Final = 100


def encode(value: Any, *, limit: int, what: str) -> bytes:
    """Encode a value as JSON for a jsonb column. Raises InvalidInput, whose message starts with `what`.

    limit: the most bytes that the JSON may have.

    Accepted besides JSON's own types: datetime, date, time, UUID, Enum, dataclasses, Decimal (written as
    text) and pydantic models. ArgumentBinder converts them back. Refused: NaN and infinities (not in JSON),
    NUL characters (not in jsonb), lone surrogates (not in UTF-8), integers of more than 64 bits, keys that
    are not text, and more than 100 levels of nesting.
    """
    try:
        encoded = orjson.dumps(value, default=_plain)
    except orjson.JSONEncodeError as error:
        raise _refused(what, f"cannot be written as JSON: {str(error)[:100]}") from None
    if len(encoded) > limit:
        raise _refused(what, f"is {len(encoded):,} bytes of JSON, at most {limit:,} are accepted")
    # The checks below walk the whole value, which is slow. The encoded bytes show whether they are needed.
    if b"null" in encoded and not _is_finite(value):
        raise _refused(what, "holds NaN or an infinity, which JSON does not have")
    if b"\\u0000" in encoded or (
        len(encoded) > _MAX_DEPTH and encoded.count(b"[") + encoded.count(b"{") > _MAX_DEPTH
    ):
        _inspect(orjson.loads(encoded), what)
    return encoded


def as_written(value: Any) -> Any:
    """Return the value as a reader of `encode`'s JSON gets it. Raises InvalidInput when it is not JSON."""
    try:
        return orjson.loads(orjson.dumps(value, default=_plain))
    except orjson.JSONEncodeError as error:
        raise InvalidInput(f"not JSON: {str(error)[:100]}") from None


def _plain(value: Any) -> Any:
    """Convert a value that orjson cannot write to one that it can."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def _is_finite(value: Any) -> bool:
    """Whether every number in the value is finite. orjson silently writes NaN and infinities as null."""
    try:
        _STRICT.encode(value)
    except ValueError:
        return False
    return True


def _contents(value: Any) -> Any:
    """Convert an object so that the JSON encoder finds the numbers in it. Only the numbers matter."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value.value if isinstance(value, Enum) else None


_STRICT: Final = json.JSONEncoder(allow_nan=False, default=_contents)


def _inspect(decoded: Any, what: str) -> None:
    """Raise InvalidInput for a NUL character in any text, or for nesting that is too deep."""
    level, depth = [decoded], 0
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.keys())
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str) and "\0" in value:
                raise _refused(what, "holds a NUL character (\\u0000), which Postgres cannot store")
        depth += any(isinstance(value, dict | list) for value in level)
        if depth > _MAX_DEPTH:
            raise _refused(what, f"is nested deeper than {_MAX_DEPTH} levels")
        level = below


def _refused(what: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{what} {reason}", fields={what: reason})


def storable(text: str, limit: int) -> str:
    """Return the text as Postgres can store it: at most `limit` characters, no NUL, no lone surrogates."""
    return text[:limit].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
