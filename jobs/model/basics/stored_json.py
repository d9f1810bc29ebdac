"""Read stored JSON. Separate from json_values.py, which takes much longer to import."""

from typing import Any

import orjson


def readable(raw: bytes | str) -> Any:
    """Parse JSON from the database; None when it cannot be parsed.

    Every enqueue checks that its JSON can be read back. But SQL can write a row without that check, and such
    a row must not break anything but its own job.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
