"""Format times, durations and counts for people, and make text from outside safe for a terminal."""

from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
#: A unit is used from twice its length on: 90 s, not 1 min.
_TWICE: Final = 2
_SECOND: Final = 1.0
_MINUTE: Final = 60.0
_TEN_SECONDS: Final = 10.0
_MAX_LINE: Final = 1000


def visible(text: str) -> str:
    """Return the text with its control characters escaped, except line breaks and tabs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Return the text on one line, escaped, and cut after 1,000 characters."""
    line = " ".join(visible(text).split())
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…"


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC: `2026-11-22T09:00:00Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """Return a time for people: `2026-11-22 09:00:00 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(moment: datetime | None, now: datetime) -> str:
    """Return the distance of a time from now: `3 s ago`, `in 10 min`; an empty text for None."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    size = abs(seconds)
    if size < _SECOND:
        return "now"
    text = next(
        f"{int(size // length)} {unit}"
        for unit, length in _UNITS
        if size >= length * (_TWICE if length > _SECOND else 1)
    )
    return f"{text} ago" if seconds > 0 else f"in {text}"


def moment(time: datetime | None, now: datetime) -> str:
    """Return a time and its distance from now: `2026-11-22 09:00:00 UTC (3 s ago)`; `-` for None."""
    return "-" if time is None else f"{clock(time)} ({ago(time, now)})"


def span(length: timedelta) -> str:
    """Return a measured duration: `850 ms`, `2.4 s`, `3 min 12 s`."""
    seconds = max(0.0, length.total_seconds())
    if seconds < _SECOND:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _TEN_SECONDS else f"{seconds:.0f} s"
    rest, parts = round(seconds), []
    for unit, length_ in _UNITS:
        count, rest = divmod(rest, length_)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 job`, `2 jobs`, `12,000 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
