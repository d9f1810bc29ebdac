"""Read JSON that others wrote: request bodies, webhook payloads, the command line. The rules are the same."""

import json
import math
from typing import Any, Final, NoReturn

import orjson
from pydantic_core import from_json

from callboard.jobs.errors import NotStorable
from callboard.jobs.model.basics.exact_json import BEYOND_DOUBLE, exact

_BOM: Final = b"\xef\xbb\xbf"


class NotJson(Exception):
    """A text is not JSON by RFC 8259, or an object repeats a key. `reason`: what is wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Malformed(NotJson):
    """The text breaks the grammar of JSON. The other reasons are about a value."""


class RepeatedKey(NotJson):
    """An object has a key twice: readers differ in which value they take."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:100]!r} is repeated in one object")
        self.key = key


def parse(raw: bytes) -> Any:
    """Return the value of a JSON text in UTF-8. Integers are exact.

    Raises NotJson: also for NaN, lone surrogates, repeated keys, floats beyond the range of a double, and
    nesting of about a thousand levels.
    """
    try:
        # orjson checks the grammar, UTF-8 and surrogates strictly. json keeps large integers and shows
        # repeated keys.
        orjson.loads(raw)
        return _QUICK.decode(raw.decode())
    except (ValueError, RecursionError):
        pass  # orjson refuses some integers, too. The slower parsers decide, and name the reason.
    try:
        from_json(raw, allow_inf_nan=False)
        return _STRICT.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise _not_json(raw, error) from None


def _not_json(raw: bytes, error: Exception) -> NotJson:
    """Return what is wrong with a text that the strict parser refused."""
    if raw.startswith(_BOM):
        return Malformed("it begins with a byte order mark; send it without")
    try:
        exact(_STRICT.decode(raw.decode()), "value")
    except json.JSONDecodeError as problem:
        return Malformed(f"{problem.msg} at line {problem.lineno} column {problem.colno}")
    except UnicodeDecodeError as problem:
        return Malformed(f"it is not UTF-8 at byte {problem.start}")
    except RecursionError:
        return NotJson("nested too deeply")
    except NotJson as problem:
        return problem
    except NotStorable as problem:
        return NotJson(problem.message)
    except ValueError:
        # Python reads no integer of more than 4,300 digits.
        return NotJson(f"an integer is {BEYOND_DOUBLE}; send it as text")
    return Malformed(str(error)[:200])


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RepeatedKey(key)
            seen.add(key)
    return read


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotJson(f"the number {digits[:40]} is beyond the range of a double (about 1.8e308)")
    return number


def _no_constant(word: str) -> NoReturn:
    raise NotJson(f"JSON has no {word}")


_QUICK: Final = json.JSONDecoder(object_pairs_hook=_unrepeated)
_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unrepeated, parse_float=_finite, parse_constant=_no_constant
)
