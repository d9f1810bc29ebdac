"""Durations as people write them: `30s`, `10m`, `1h`, `2d`, `1h30m`. The code works with `timedelta`."""

import re
from datetime import timedelta
from typing import Final

from callboard.jobs.errors import InvalidInput

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_WHOLE: Final = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,6})?(?:ms|s|m|h|d|w))+")
#: Longer than any job, schedule or retention needs. Within this bound, adding to a date does not overflow.
LONGEST: Final = timedelta(days=3660)


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `30s`, `10m` or `1h30m`. Raises InvalidInput with examples of the format."""
    cleaned = text.strip().lower()
    if not _WHOLE.fullmatch(cleaned):
        raise InvalidInput(f"not a duration: {text[:40]!r} (write it as 30s, 10m, 1h30m or 2d)")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(cleaned))
    if seconds > LONGEST.total_seconds():
        raise InvalidInput(f"the duration {text[:40]!r} is longer than ten years")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Format a duration in its two largest units: `1h30m`, `2d`, `250ms`. Smaller units are dropped."""
    milliseconds = round(value.total_seconds() * 1000)
    if milliseconds < 0:
        return "-" + format_duration(-value)
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    rest, parts = milliseconds // 1000, []
    for unit in ("d", "h", "m", "s"):
        size = int(_UNITS[unit])
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def exact_duration(value: timedelta) -> str:
    """Format a duration exactly: `10m`, `1d1h1m`, or `90.5s` when it has a fraction of a second."""
    text = format_duration(value)
    if parse_duration(text) == value:
        return text
    if value.microseconds:
        return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    # format_duration writes two units at most: format the rest too.
    return text + exact_duration(value - parse_duration(text))
