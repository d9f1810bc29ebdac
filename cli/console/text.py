"""Words for people: times, spans, and text from outside that must not steer a terminal."""

from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
#: Two of a unit are told in the smaller one: 90 s, not 1 min.
_TWICE: Final = 2
_SECOND: Final = 1.0
_MINUTE: Final = 60.0
_TEN: Final = 10.0
_LONGEST_LINE: Final = 1000


def visible(text: str) -> str:
    """The text with its control characters escaped, line breaks and tabs apart."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """The text in one line that fits a terminal's patience."""
    line = " ".join(visible(text).split())
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def iso(moment: datetime) -> str:
    """An instant as ISO 8601 in UTC: `2026-11-22T09:00:00Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """An instant for a card: `2026-11-22 09:00:00 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(moment: datetime | None, now: datetime) -> str:
    """How far an instant lies from now: `3 s ago`, `in 10 min`."""
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


def span(length: timedelta) -> str:
    """A measured span: `850 ms`, `2.4 s`, `3 min 12 s`."""
    seconds = max(0.0, length.total_seconds())
    if seconds < _SECOND:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _TEN else f"{seconds:.0f} s"
    rest, parts = round(seconds), []
    for unit, length_ in _UNITS:
        count, rest = divmod(rest, length_)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`, `12,000 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
