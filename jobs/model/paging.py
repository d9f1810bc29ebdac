"""Pages of lists: the limit of a page, and the cursor that leads to the next one."""

import base64
from typing import Final

from callboard.jobs.errors import InvalidInput

#: The most items of one page.
PAGE_LIMIT: Final = 200


def check_limit(limit: int, most: int = PAGE_LIMIT) -> None:
    """Raise InvalidInput unless the limit is from 1 to `most`."""
    if not 1 <= limit <= most:
        raise InvalidInput(f"limit must lie between 1 and {most}", fields={"limit": f"1 to {most}"})


def write_cursor(position: bytes) -> str:
    """Return the cursor of a position in a list."""
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def cursor_pattern(size: int) -> str:
    """Return a regular expression that matches exactly the cursors whose position has `size` bytes."""
    return f"[A-Za-z0-9_-]{{{-(-size * 4 // 3)}}}"


def read_cursor(cursor: str, size: int) -> bytes:
    """Return the position, of `size` bytes, that a cursor stands for. Raises InvalidInput."""
    try:
        padded = cursor[:64] + "=" * (-len(cursor[:64]) % 4)
        position = base64.b64decode(padded, altchars=b"-_", validate=True)
    except ValueError:
        raise bad_cursor() from None
    if len(position) != size:
        raise bad_cursor()
    return position


def bad_cursor() -> InvalidInput:
    """Return the error of a cursor that no list returned."""
    return InvalidInput("the cursor is not one that a list gave out", fields={"cursor": "not valid"})
