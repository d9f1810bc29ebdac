"""JSON that Postgres can keep: every value that is stored passes `encode`."""

import dataclasses
import json
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson
from pydantic import BaseModel

from callboard.jobs.errors import InvalidInput

DEEPEST: Final = 100


def encode(value: Any, *, limit: int, what: str) -> bytes:
    """The value as JSON of at most `limit` bytes, fit for a jsonb column; InvalidInput names `what`.

    Besides JSON's own types: datetime, date, time, UUID, Enum, dataclasses, Decimal (as text) and pydantic models,
    which are what ArgumentBinder reads back. Refused: NaN and infinities (JSON has none), NUL characters (jsonb has
    none), lone surrogates (UTF-8 has none), integers beyond 64 bits, keys that are not text, nesting deeper than 100.
    """
    try:
        encoded = orjson.dumps(value, default=_plain)
    except orjson.JSONEncodeError as error:
        raise _refused(what, f"cannot be written as JSON: {str(error)[:100]}") from None
    if len(encoded) > limit:
        raise _refused(what, f"is {len(encoded):,} bytes of JSON, at most {limit:,} are accepted")
    # What follows reads the value again; the encoded bytes tell when there is a reason to.
    if b"null" in encoded and not _is_finite(value):
        raise _refused(what, "holds NaN or an infinity, which JSON does not have")
    if b"\\u0000" in encoded or (
        len(encoded) > DEEPEST and encoded.count(b"[") + encoded.count(b"{") > DEEPEST
    ):
        _inspect(orjson.loads(encoded), what)
    return encoded


def as_written(value: Any) -> Any:
    """The value as `encode` writes it and a reader finds it, without its bounds; InvalidInput when it is not JSON."""
    try:
        return orjson.loads(orjson.dumps(value, default=_plain))
    except orjson.JSONEncodeError as error:
        raise InvalidInput(f"not JSON: {str(error)[:100]}") from None


def _plain(value: Any) -> Any:
    """What orjson does not write by itself, as something it does."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def _is_finite(value: Any) -> bool:
    """Whether no number in the value is NaN or infinite; orjson writes those as null without a word."""
    try:
        _STRICT.encode(value)
    except ValueError:
        return False
    return True


def _contents(value: Any) -> Any:
    """The numbers a value holds, however it is written otherwise."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value.value if isinstance(value, Enum) else None


_STRICT: Final = json.JSONEncoder(allow_nan=False, default=_contents)


def _inspect(decoded: Any, what: str) -> None:
    """Look through every text and every level of a decoded value."""
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
        if depth > DEEPEST:
            raise _refused(what, f"is nested deeper than {DEEPEST} levels")
        level = below


def _refused(what: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{what} {reason}", fields={what: reason})


def storable(text: str, limit: int) -> str:
    """Text that Postgres takes, whatever it was: at most `limit` characters, no NUL, no lone surrogates."""
    return text[:limit].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
