"""Values that stand for what Python cannot hold, and problems of rows that were changed by hand."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Self

#: A text that is quoted from a row is cut after this many characters.
_LONGEST_TEXT: Final = 80


class Unreadable:
    """A value of Postgres that Python cannot hold. `text` is how Postgres shows it."""

    text: str


class UnreadableTime(Unreadable, datetime):
    """A time before the year 1, after the year 9999, or infinite. It counts as the year 2 or the year 9998.

    A year is left at both ends: adding a delay or a time zone does not overflow.
    """

    @classmethod
    def of(cls, text: str, *, early: bool) -> Self:
        value = cls(2, 1, 1, tzinfo=UTC) if early else cls(9998, 12, 31, tzinfo=UTC)
        value.text = text
        return value


class UnreadableSpan(Unreadable, timedelta):
    """An interval that is too long or infinite. It counts as a hundred years, forwards or backwards."""

    @classmethod
    def of(cls, text: str, *, negative: bool) -> Self:
        value = cls(days=-36_525 if negative else 36_525)
        value.text = text
        return value


class RowProblem(NamedTuple):
    """A row that cannot be read as it is: its table, its name or id, the column, and the reason."""

    table: str
    key: str
    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.table} {quoted(self.key)}, column {self.column}: {self.reason}"


def quoted(value: object) -> str:
    """Return a value as it may be shown in a message: on one line, and cut."""
    text = repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def unreadable_values(value: Any) -> dict[str, str]:
    """Return the fields of a dataclass or a named tuple that hold an unreadable value, with the reason."""
    names = [one.name for one in fields(value)] if is_dataclass(value) else value._fields
    found = {name: getattr(value, name) for name in names}
    return {
        name: f"{quoted(each.text)} is not a time or a length that Callboard can read"
        for name, each in found.items()
        if isinstance(each, Unreadable)
    }
