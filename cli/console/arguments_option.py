"""Values that may be long or secret: given as text, from a file (@FILE) or from stdin (-)."""

import json
import math
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from callboard.jobs.errors import InvalidInput

#: Characters that are read at most; the platform's own bound, in bytes, is checked after it.
_LONGEST: Final = 4 * 1024 * 1024
_ARGS: Final = "--args"
_MEND: Final = """give an object such as '{"account_id": 7}' or an array such as '[7]'"""


def read_arguments(given: str | None) -> dict[str, Any]:
    """The fields of a job request: an object becomes `kwargs`, an array `args`; raises InvalidInput."""
    if given is None:
        return {}
    try:
        value = json.loads(read_text(given, _ARGS), parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise _refused(
            f"not JSON: {error.msg} at line {error.lineno} column {error.colno}; {_MEND}"
        ) from None
    except RecursionError:
        raise _refused("nested too deeply") from None
    except ValueError as error:
        raise _refused(str(error)) from None
    match value:
        case dict():
            return {"kwargs": value}
        case list():
            return {"args": value}
    raise _refused(f"neither an object nor an array; {_MEND}")


def read_text(given: str, option: str) -> str:
    """The text itself, or what the file or stdin that it names holds; raises InvalidInput that names the option."""
    place = "stdin" if given == "-" else given[1:]
    try:
        if given == "-":
            text = sys.stdin.read(_LONGEST + 1)
        elif given.startswith("@"):
            with Path(given[1:]).open(encoding="utf-8") as file:
                text = file.read(_LONGEST + 1)
        else:
            text = given
    except OSError as error:
        raise InvalidInput(f"{option}: {place} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InvalidInput(f"{option}: {place} is not UTF-8 text") from None
    if len(text) > _LONGEST:
        raise InvalidInput(f"{option}: longer than {_LONGEST:,} characters")
    return text


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"JSON has no {word}")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:40]} is beyond the range of a double (about 1.8e308)")
    return number


def _refused(reason: str) -> InvalidInput:
    return InvalidInput(f"{_ARGS}: {reason}", fields={"args": reason})
