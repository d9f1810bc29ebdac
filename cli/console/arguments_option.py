"""Read option values that may be long or secret: as text, from a file (@FILE) or from stdin (-)."""

import sys
from pathlib import Path
from typing import Any, Final

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
    from callboard.jobs.model.basics.strict_json import Malformed, NotJson, parse

    try:
        # Bytes of the command line that are not UTF-8 are surrogates in the text.
        value = parse(read_text(text, _ARGS).encode("utf-8", "surrogateescape"))
    except Malformed as error:
        raise _invalid_arguments(f"not JSON: {error.reason}; {_FORM}") from None
    except NotJson as error:
        raise _invalid_arguments(error.reason) from None
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


def _invalid_arguments(reason: str) -> InvalidInput:
    return InvalidInput(f"{_ARGS}: {reason}", fields={"args": reason})
