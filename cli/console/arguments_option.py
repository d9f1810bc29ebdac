"""Read option values that may be long or secret: as text, from a file (@FILE) or from stdin (-)."""

import json
import math
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from callboard.jobs.errors import InvalidInput

#: At most this many characters are read. The platform checks its own limit, in bytes, later.
_MAX_CHARACTERS: Final = 4 * 1024 * 1024
_ARGS: Final = "--args"
_FORM: Final = """give an object such as '{"account_id": 7}' or an array such as '[7]'"""


def read_arguments(text: str | None) -> dict[str, Any]:
    """Return the fields of a job request: `kwargs` for a JSON object, `args` for an array, none for None.

    Raise InvalidInput if the text is not such JSON.
    """
    if text is None:
        return {}
    try:
        value = json.loads(read_text(text, _ARGS), parse_constant=_reject_constant, parse_float=_parse_finite)
    except json.JSONDecodeError as error:
        raise _invalid_arguments(
            f"not JSON: {error.msg} at line {error.lineno} column {error.colno}; {_FORM}"
        ) from None
    except RecursionError:
        raise _invalid_arguments("nested too deeply") from None
    except ValueError as error:
        raise _invalid_arguments(str(error)) from None
    match value:
        case dict():
            return {"kwargs": value}
        case list():
            return {"args": value}
    raise _invalid_arguments(f"neither an object nor an array; {_FORM}")


def read_text(value: str, option: str) -> str:
    """Return the text itself, or the content of the file or stdin that it names.

    Raise InvalidInput, with the option's name, if the text cannot be read or is too long.
    """
    origin = "stdin" if value == "-" else value[1:]
    try:
        if value == "-":
            text = sys.stdin.read(_MAX_CHARACTERS + 1)
        elif value.startswith("@"):
            with Path(value[1:]).open(encoding="utf-8") as file:
                text = file.read(_MAX_CHARACTERS + 1)
        else:
            text = value
    except OSError as error:
        raise InvalidInput(f"{option}: {origin} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InvalidInput(f"{option}: {origin} is not UTF-8 text") from None
    if len(text) > _MAX_CHARACTERS:
        raise InvalidInput(f"{option}: the text is longer than {_MAX_CHARACTERS:,} characters")
    return text


def _reject_constant(word: str) -> NoReturn:
    raise ValueError(f"JSON has no {word}")


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:40]} is beyond the range of a double (about 1.8e308)")
    return number


def _invalid_arguments(reason: str) -> InvalidInput:
    return InvalidInput(f"{_ARGS}: {reason}", fields={"args": reason})
