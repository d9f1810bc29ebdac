"""JSON that Postgres can store. `encode` checks and writes every value that is stored."""

import dataclasses
import json
import re
from enum import Enum
from typing import Any, Final

import orjson
from pydantic import BaseModel

from callboard.jobs.errors import NotStorable
from callboard.jobs.model.basics.exact_json import (
    MOST_LEVELS,
    exact,
    plain,
    refusal,
    with_text_keys,
    written_fields,
)
from callboard.jobs.model.basics.plain_text import plain_text
from callboard.jobs.model.basics.stored_json import parsed

#: How much longer a value may be when its large floats are written out.
_WRITTEN_OUT: Final = 2
#: A cheap search that finds every float with an exponent, and some texts.
_MAYBE_EXPONENT: Final = re.compile(rb"e[+1-9]")
#: A float that jsonb would store as another value: with a positive exponent, or a negative zero.
_CHANGES: Final = re.compile(rb"(?:^|[:,\[])-?(?:[0-9.]+e\+?[1-9]|(?<=-)0\.0(?![0-9]))")
#: The same where there are no strings.
_CHANGES_OUTSIDE: Final = re.compile(rb"[0-9]e\+?[1-9]|-0\.0(?![0-9])")


def encode(value: Any, *, limit: int, what: str, text_keys: bool = False) -> bytes:
    """Encode a value as JSON for a jsonb column. Raises NotStorable, whose message starts with `what`.

    limit:     the most bytes that the JSON may have.
    text_keys: True: keys become text where Python's own JSON does that, such as `{1: 2}`.

    Accepted besides JSON's own types: datetime, date, time, UUID, Enum, dataclasses, Decimal (written as
    text) and pydantic models. ArgumentBinder converts them back. Integers are exact, and a float stays the
    same float. Refused, with the place of the value: NaN and infinities (not in JSON), NUL characters (not in
    jsonb), lone surrogates (not in UTF-8), numbers beyond the range of a double, keys that are not text, and
    more than 100 levels of nesting.
    """
    try:
        encoded = orjson.dumps(value, default=plain)
    except orjson.JSONEncodeError:
        return _rewritten(with_text_keys(value) if text_keys else value, limit, what)
    if len(encoded) > limit:
        raise _too_long(encoded, limit, what)
    # `exact` walks the whole value, which is slow. The encoded bytes show whether it is needed.
    if (
        (b"null" in encoded and not _is_finite(value))
        or b"\\u0000" in encoded
        or ((_MAYBE_EXPONENT.search(encoded) or b"-0.0" in encoded) and _changes(encoded))
        or (len(encoded) > MOST_LEVELS and _is_deep(encoded))
    ):
        # The limit is for the usual notation. Floats that are written out may take more.
        return _rewritten(value, limit * _WRITTEN_OUT, what)
    return encoded


def as_written(value: Any) -> Any:
    """Return the value as a reader of `encode`'s JSON gets it. Raises NotStorable when it is not JSON."""
    try:
        return orjson.loads(orjson.dumps(value, default=plain))
    except orjson.JSONEncodeError:
        return parsed(orjson.dumps(exact(value, "kwargs")))


def _changes(encoded: bytes) -> bool:
    """Whether jsonb may store a number as another value. Hexadecimal ids in strings look like exponents."""
    if b"\\" in encoded:
        return _CHANGES.search(encoded) is not None
    outside = b"".join(encoded.split(b'"')[::2])
    return _CHANGES_OUTSIDE.search(outside) is not None


def _rewritten(value: Any, limit: int, what: str) -> bytes:
    encoded = orjson.dumps(exact(value, what, limit=limit))
    if len(encoded) > limit:
        raise _too_long(encoded, limit, what)
    return encoded


def _too_long(encoded: bytes, limit: int, what: str) -> NotStorable:
    return refusal((what,), f"is {len(encoded):,} bytes of JSON, at most {limit:,} are accepted")


def _is_deep(encoded: bytes) -> bool:
    """Whether the value is nested deeper than is accepted."""
    if encoded.count(b"[") + encoded.count(b"{") <= MOST_LEVELS:
        return False
    level = [orjson.loads(encoded)]
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


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
        return written_fields(value)
    return value.value if isinstance(value, Enum) else None


_STRICT: Final = json.JSONEncoder(allow_nan=False, default=_contents)


def storable(text: str, limit: int) -> str:
    """Return the text as Postgres can store it: at most `limit` characters, no NUL, no lone surrogates."""
    return (
        plain_text(text)[:limit]
        .replace("\x00", "\N{REPLACEMENT CHARACTER}")
        .encode("utf-8", "replace")
        .decode()
    )
