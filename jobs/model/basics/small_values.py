"""Whether values are so small that a check of them does not hold up an event loop."""

from typing import Any, Final

_MOST_PARTS: Final = 1_000
_MOST_TEXT: Final = 64 * 1024


def is_small(value: Any) -> bool:
    """Return whether a value has few parts and little text. The answer takes no longer for large values."""
    parts, text, stack = 0, 0, [value]
    while stack:
        one = stack.pop()
        parts += 1
        if isinstance(one, str | bytes):
            text += len(one)
        elif isinstance(one, dict):
            parts += len(one)
            if parts <= _MOST_PARTS:
                stack += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            parts += len(one)
            if parts <= _MOST_PARTS:
                stack += one
        elif not (one is None or isinstance(one, int | float)):
            parts += _UNKNOWN
        if parts > _MOST_PARTS or text > _MOST_TEXT:
            return False
    return True


#: What another object counts: a date or a UUID is small, and a model may be large.
_UNKNOWN: Final = 50
