"""What an error says of the value of a setting that does not fit. It shows no secret."""

from typing import Final

from pydantic_core import ErrorDetails

from callboard.config.redaction import MASK, mask_text
from callboard.config.setting_types import MAX_URL

#: The most characters that are shown of a name or a value.
MAX_SHOWN: Final = 80


def bad_value(name: str, value: object, found: ErrorDetails, *, expected: str) -> str:
    """Return the problem with a value.

    name:     the setting, as the user wrote it: `CALLBOARD_PORT` or `callboard.toml: port`.
    found:    what pydantic says of the value.
    expected: which values the setting accepts.
    """
    key = name.lower()
    if key.endswith("_url"):
        return f"{name} is not usable: {_url_problem(found)}; expected {expected}"
    shown = MASK if key.endswith("secret_key") else _shown(value)
    return f"{name} is {shown}; expected {expected}"


def _url_problem(found: ErrorDetails) -> str:
    """Return what is wrong with a URL. No part of it is shown: an unescaped password may be anywhere."""
    match found["type"]:
        case "value_error":
            return str(found["ctx"]["error"])
        case "string_too_long":
            return f"it is longer than {MAX_URL} characters"
        case "string_unicode":
            return "it has bytes that are not valid UTF-8"
        case _:
            return "it is not a text"


def _shown(value: object) -> str:
    text = mask_text(str(value))
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")
