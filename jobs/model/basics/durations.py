"""Durations as people write them: `30s`, `10m`, `1h`, `2d`, `1h30m`. The code works with `timedelta`."""

import re
from datetime import timedelta
from typing import Final

from callboard.jobs.errors import InvalidInput

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
#: The number before each unit: in the first part, and in a later part, which is less than one larger unit.
_NUMBERS: Final = {
    "w": (r"(?:[0-4]?[0-9]{1,2}|5[0-4][0-9])", ""),
    "d": (r"(?:[0-2]?[0-9]{1,3}|3[0-8][0-9]{2})", r"[0-6]"),
    "h": (r"[0-8]?[0-9]{1,4}", r"(?:[01]?[0-9]|2[0-3])"),
    "m": (r"(?:[0-4]?[0-9]{1,6}|5[0-5][0-9]{5})", r"[0-5]?[0-9]"),
    "s": (r"(?:[0-2]?[0-9]{1,8}|3[0-2][0-9]{7})", r"[0-5]?[0-9]"),
    "ms": (r"[0-9]{1,9}", r"[0-9]{1,3}"),
}
#: More than any job, schedule or retention needs. No text that DURATION_PATTERN matches is longer. With this
#: bound, adding to a date does not overflow.
LONGEST: Final = timedelta(days=3900) - timedelta.resolution


def _pattern() -> str:
    """Return the pattern of all durations: parts from the largest unit down, and one of them is enough."""
    forms, later = [], ""
    for unit in ("ms", "s", "m", "h", "d", "w"):
        first, rest = _NUMBERS[unit]
        # A millisecond has 1,000 microseconds, the smallest step of a timedelta.
        fraction = r"\.[0-9]{1,3}" if unit == "ms" else r"\.[0-9]{1,6}"
        forms.append(f"{first}(?:{unit}{later}|{fraction}{unit})")
        # A part with a fraction is the last one. It is the only one, unless it has seconds or milliseconds.
        later = f"(?:{rest}{unit})?{later}"
        if unit == "ms":
            later = f"(?:{rest}(?:{fraction})?{unit})?"
        elif unit == "s":
            later = f"(?:{rest}{fraction}{unit}|{later})"
    return "|".join(reversed(forms))


#: A regular expression that matches exactly the texts that `parse_duration` accepts.
DURATION_PATTERN: Final = _pattern()
_DURATION: Final = re.compile(DURATION_PATTERN)


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `30s`, `10m` or `1h30m`. Raises InvalidInput with examples of the format.

    The largest unit comes first. Each later part is less than one of the unit before: `90m` or `1h30m`, not
    `1h90m`.
    """
    if not _DURATION.fullmatch(text):
        raise InvalidInput(
            f"not a duration: {text[:40]!r} (write it as 30s, 10m, 1h30m or 2d; ten years at most)"
        )
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
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
    """Format a duration exactly: `10m`, `1d1h1m`, or `90.5s` when it has a fraction of a second.

    A length that no request can have, such as a negative one, is written in seconds.
    """
    if not timedelta(0) <= value <= LONGEST:
        return f"{value.total_seconds():g}s"
    if value.microseconds and value >= _DAY:
        minutes = value - value % _MINUTE
        return exact_duration(minutes) + exact_duration(value - minutes)
    if value.microseconds and (value > _SECOND or value.microseconds % 1000):
        return f"{value.total_seconds():.6f}".rstrip("0") + "s"
    text = format_duration(value)
    rest = value - parse_duration(text)
    # format_duration writes two units at most: format the rest too.
    return text + exact_duration(rest) if rest else text
