"""Read stored JSON. Separate from json_values.py, which takes much longer to import."""

from typing import Any, Final

import orjson
from pydantic_core import from_json

#: A shorter text has no integer of more than 64 bits. orjson reads it faster, but would round such integers.
_SHORT: Final = 20


def parsed(raw: bytes | str) -> Any:
    """Parse JSON that `encode` or Postgres wrote. Integers of any length are exact. Raises ValueError."""
    return orjson.loads(raw) if len(raw) < _SHORT else from_json(raw, allow_inf_nan=False)


def readable(raw: bytes | str) -> Any:
    """Parse JSON from the database; None when it cannot be parsed.

    Every enqueue checks that its JSON can be read back. But SQL can write a row without that check, and such
    a row must not break anything but its own job.
    """
    try:
        return parsed(raw)
    except ValueError:
        return None
