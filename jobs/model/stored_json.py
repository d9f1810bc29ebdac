"""Reading JSON that is stored. Apart from writing it, which takes much more to import."""

from typing import Any

import orjson


def readable(raw: bytes | str) -> Any:
    """JSON that came out of the database; None where nobody can read it.

    Every door refuses what cannot be read back, but a row may be written past all doors, and must harm only itself.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
