"""Read the target of a request line (RFC 9112, section 3.2)."""

import re
from typing import Final
from urllib.parse import unquote

_ORIGIN: Final = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_ENCODED_SLASH: Final = re.compile("%2f", re.IGNORECASE)


def origin_form(target: bytes) -> bytes:
    """Return the path and query of a target in any form; `/*` for the target `*`."""
    if target.startswith(b"/"):
        return target
    if target == b"*":
        return b"/*"
    path = _ORIGIN.sub(b"", target, count=1)
    return path if path.startswith(b"/") else b"/" + path


def decoded_path(raw: bytes) -> str:
    """Return a path without percent-encoding. An encoded slash stays `%2F`, because it separates nothing."""
    return unquote(_ENCODED_SLASH.sub("%252F", raw.decode("ascii")))
