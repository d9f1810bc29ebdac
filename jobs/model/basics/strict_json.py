"""Read JSON that others wrote: request bodies, webhook payloads, the command line. The rules are the same."""

import json
import math
from typing import Any, Final, NoReturn

from pydantic_core import from_json

from callboard.jobs.errors import NotStorable
from callboard.jobs.model.basics.exact_json import MOST_DIGITS, exact

_BOM: Final = b"\xef\xbb\xbf"


class NotJson(Exception):
    """A text is not JSON by RFC 8259, or an object repeats a key. `reason`: what is wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RepeatedKey(NotJson):
    """An object has a key twice: readers differ in which value they take."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:100]!r} is repeated in one object")
        self.key = key


def parse(raw: bytes) -> Any:
    """Return the value of a JSON text in UTF-8. Integers are exact.

    Raises NotJson: also for NaN, lone surrogates, repeated keys, integers of more than 4,300 digits, numbers
    beyond the range of a double, and more than 200 levels of nesting.
    """
    try:
        # pydantic checks the grammar, UTF-8 and surrogates strictly. json shows repeated keys.
        from_json(raw, allow_inf_nan=False)
        return _DECODER.decode(raw.decode())
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except ValueError as error:
        raise NotJson(_reason(raw, error)) from None


def _reason(raw: bytes, error: ValueError) -> str:
    """Return what is wrong with a text that the strict parser refused."""
    if raw.startswith(_BOM):
        return "it begins with a byte order mark; send it without"
    try:
        exact(_DECODER.decode(raw.decode()), "value")
    except json.JSONDecodeError:
        return str(error)[:200]
    except UnicodeDecodeError as problem:
        return f"it is not UTF-8 at byte {problem.start}"
    except RecursionError:
        return "it is nested too deeply"
    except NotJson as problem:
        return problem.reason
    except NotStorable as problem:
        return problem.message
    except ValueError:
        return f"an integer has more than {MOST_DIGITS:,} digits; send it as text"
    return str(error)[:200]


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


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unrepeated, parse_float=_finite, parse_constant=_no_constant
)
